// Each subcommand adds itself, with its options, help and what it does.
#pragma once
#include <CLI/CLI.hpp>

namespace rondo {

void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_verify(CLI::App& app);
void add_info(CLI::App& app);
void add_graph(CLI::App& app);
void add_bench(CLI::App& app);

}  // namespace rondo
