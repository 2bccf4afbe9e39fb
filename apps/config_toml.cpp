// Reads configurations. toml++ is included only here.
#include "apps/config.h"

#include <toml++/toml.h>

#include <algorithm>

#include "apps/config_keys.h"

namespace rondo {
namespace {

bool read(const toml::node& node, int64_t& to) {
  if (!node.is_integer()) return false;
  to = node.as_integer()->get();
  return true;
}

bool read(const toml::node& node, double& to) {
  if (!node.is_number()) return false;
  to = *node.value<double>();
  return true;
}

bool read(const toml::node& node, bool& to) {
  if (!node.is_boolean()) return false;
  to = node.as_boolean()->get();
  return true;
}

bool read(const toml::node& node, std::string& to) {
  if (!node.is_string()) return false;
  to = node.as_string()->get();
  return true;
}

template <class T>
bool read(const toml::node& node, std::vector<T>& to) {
  if (!node.is_array()) return false;
  std::vector<T> list;
  for (const toml::node& item : *node.as_array())
    if (!read(item, list.emplace_back())) return false;
  to = std::move(list);
  return true;
}

// [] stands for "not given".
bool read(const toml::node& node, std::optional<std::array<double, 2>>& to) {
  std::vector<double> list;
  if (!read(node, list) || (list.size() != 2 && !list.empty())) return false;
  to.reset();
  if (!list.empty()) to = {list[0], list[1]};
  return true;
}

template <class T>
bool read(const toml::node& node, std::optional<T>& to) {
  T value;
  if (!read(node, value)) return false;
  to = std::move(value);
  return true;
}

std::string type_text(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::table:
      return "a section";
    default:
      return "a date or time";
  }
}

void apply(RunConfig& config, const std::string& where, const std::string& section, const std::string& name,
           const toml::node& node) {
  for (const ConfigKey& key : config_keys(config)) {
    if (key.section != section || key.name != name) continue;
    const bool ok = std::visit([&](auto* place) { return read(node, *place); }, key.place);
    const bool same_kind = node.is_array() && wanted_text(key.place).starts_with("a list");
    check(ok, where, ": ", section, ".", name, " must be ", wanted_text(key.place), ", not ",
          same_kind ? "this list" : type_text(node));
    return;
  }
  fail_unknown_key(where, section, name);
}

std::string place_of(const std::string& name, const toml::source_region& source) {
  return name + ":" + std::to_string(source.begin.line);
}

// Such a key takes model.init=0.4 as the text it is.
bool wants_string(const std::string& section, const std::string& name) {
  RunConfig config;
  for (const ConfigKey& key : config_keys(config))
    if (key.section == section && key.name == name) return std::holds_alternative<std::string*>(key.place);
  return false;
}

std::vector<std::string> sections() {
  RunConfig config;
  std::vector<std::string> all;
  for (const ConfigKey& key : config_keys(config))
    if (all.empty() || all.back() != key.section) all.push_back(key.section);
  return all;
}

void fail_unknown_section(const std::string& where, const std::string& name, bool is_table) {
  std::string known = "the sections are";
  const std::vector<std::string> all = sections();
  for (size_t i = 0; i < all.size(); ++i)
    known += (i == 0 ? " [" : i + 1 < all.size() ? ", [" : " and [") + all[i] + "]";
  if (is_table) fail(where, ": unknown section [", name, "]; ", known);
  fail(where, ": the key ", name, " stands in no section; ", known);
}

}  // namespace

void apply_toml(RunConfig& config, const std::string& text, const std::string& name) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& e) {
    fail(place_of(name, e.source()), ": ", e.description());
  }
  const std::vector<std::string> known = sections();
  for (const auto& [section, node] : root) {
    const std::string s(section.str()), where = place_of(name, node.source());
    if (std::find(known.begin(), known.end(), s) == known.end() || !node.is_table())
      fail_unknown_section(where, s, node.is_table());
    for (const auto& [key, value] : *node.as_table())
      apply(config, place_of(name, value.source()), s, std::string(key.str()), value);
  }
}

void apply_setting(RunConfig& config, const std::string& setting) {
  const std::string where = "--set " + setting;
  const size_t equals = setting.find('='), dot = setting.find('.');
  check(equals != setting.npos && dot < equals, where, ": write it as section.key=value");
  const std::string section = setting.substr(0, dot), name = setting.substr(dot + 1, equals - dot - 1);
  const std::string text = setting.substr(equals + 1);
  toml::table root;
  try {
    root = toml::parse("value = " + text);
  } catch (const toml::parse_error&) {
  }
  if (root.size() != 1 || (wants_string(section, name) && !root.get("value")->is_string()))
    root = toml::table{{"value", text}};
  apply(config, where, section, name, *root.get("value"));
}

}  // namespace rondo
