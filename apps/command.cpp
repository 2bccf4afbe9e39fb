#include <CLI/CLI.hpp>
#include <charconv>

#include "apps/commands.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

CLI::Validator whole_number(int64_t lowest, int64_t highest) {
  const bool bounded = highest < std::numeric_limits<int64_t>::max();
  const std::string range = std::to_string(lowest) + (bounded ? " to " + std::to_string(highest) : " or more");
  const auto wrong = [=](const std::string& text) -> std::string {
    int64_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || end != text.data() + text.size()) return text + " is not a whole number; give " + range;
    return n >= lowest && n <= highest ? "" : text + " is not " + range;
  };
  return CLI::Validator(wrong, bounded ? range : "");
}

}  // namespace

Command::Command(CLI::App& program, const char* name, const char* help) : app_(program.add_subcommand(name, help)) {}

void Command::text(const char* name, std::string& value, const char* help, const Choices& choices) {
  CLI::Option* option = app_->add_option(name, value, help);
  if (!choices.empty()) option->check(CLI::IsMember(choices));
}

void Command::required(const char* name, std::string& value, const char* help, const Choices& choices) {
  text(name, value, help, choices);
  app_->get_option(name)->required();
}

void Command::text(const char* name, std::optional<std::string>& value, const char* help) {
  app_->add_option(name, value, help);
}

void Command::texts(const char* name, std::vector<std::string>& values, const char* help) {
  app_->add_option(name, values, help);
}

void Command::repeated(const char* name, std::vector<std::string>& values, const char* help) {
  app_->add_option(name, values, help)
      ->check([](const std::string& s) { return s.empty() ? "it is empty" : ""; })
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Command::number(const char* name, int64_t& value, const char* help, int64_t lowest, int64_t highest) {
  CLI::Option* option = app_->add_option(name, value, help)->check(whole_number(lowest, highest));
  if (value >= lowest) option->capture_default_str();
}

void Command::number(const char* name, double& value, const char* help) {
  app_->add_option(name, value, help)->capture_default_str();
}

void Command::number(const char* name, std::optional<double>& value, const char* help) {
  app_->add_option(name, value, help);
}

void Command::flag(const char* name, bool& value, const char* help) { app_->add_flag(name, value, help); }

void Command::model(std::string& path) {
  required("RUN_OR_CHECKPOINT", path, "A run (its latest checkpoint) or a checkpoint");
}

void Command::threads() {
  const auto set = [](const int64_t& n) {
    if (n > 0) set_num_threads(int(n));
  };
  app_->add_option_function<int64_t>("--threads", set, "Threads; 0: what the machine gives")
      ->check(whole_number(0, 1024));
}

void Command::device(Device& device) {
  const auto set = [&device](const std::string& name) { device = device_of(name); };
  app_->add_option_function<std::string>("--device", set, "cpu or cuda (default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
}

void Command::at_the_end(std::function<void()> action) { app_->callback(std::move(action)); }

}  // namespace rondo
