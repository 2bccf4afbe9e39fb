// How a subcommand describes its options: a few verbs over CLI11, which only command.cpp and main.cpp include (it is
// slow to compile). What an option's value breaks is a usage error that names the option.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor/device.h"

namespace CLI {
class App;
}

namespace rondo {

class Command {
 public:
  Command(CLI::App& program, const char* name, const char* help);

  using Choices = std::vector<std::string>;
  // An option ("--out") or argument ("RUN") that must be given; one that may be.
  void required(const char* name, std::string& value, const char* help, const Choices& choices = {});
  void text(const char* name, std::string& value, const char* help, const Choices& choices = {});
  void text(const char* name, std::optional<std::string>& value, const char* help);
  void texts(const char* name, std::vector<std::string>& values, const char* help);     // several after it
  void repeated(const char* name, std::vector<std::string>& values, const char* help);  // given again for each
  void number(const char* name, int64_t& value, const char* help, int64_t lowest = 0,
              int64_t highest = std::numeric_limits<int64_t>::max());
  void number(const char* name, double& value, const char* help);
  void number(const char* name, std::optional<double>& value, const char* help);
  void flag(const char* name, bool& value, const char* help);
  void model(std::string& path);  // a run or checkpoint, which must be given
  void threads();                 // --threads, put to work as it is read
  void device(Device& device);    // --device

  // What to do once all options are read: action(options), of the options that this returns, to be described.
  template <class Options, class Action>
  Options& run(Action action) {
    const auto options = std::make_shared<Options>();
    at_the_end([=] { action(*options); });
    return *options;
  }

 private:
  void at_the_end(std::function<void()> action);

  CLI::App* app_;
};

void add_train(CLI::App& program);
void add_eval(CLI::App& program);
void add_generate(CLI::App& program);
void add_chat(CLI::App& program);
void add_convert(CLI::App& program);
void add_verify(CLI::App& program);
void add_info(CLI::App& program);
void add_graph(CLI::App& program);
void add_vocabulary(CLI::App& program);
void add_bench(CLI::App& program);

}  // namespace rondo
