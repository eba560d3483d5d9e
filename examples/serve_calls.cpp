#include "serve_calls.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <random>
#include <utility>

#include "job.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"

namespace serve {
namespace {

using ssm::Json;
using ssm::Token;
using ssm::detail::JsonObject;

const Json null{};

[[noreturn]] void refuse(const std::string& field, const std::string& message) {
  throw Refusal(400, message, field, "invalid_value");
}
[[noreturn]] void refuse_type(const std::string& field, const Json& got, const char* want) {
  refuse(field, field + " is " + JsonObject::describe(got) + ", expected " + want);
}

/// The fields of a call, each of which must be read.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {
    if (json.as<Json::Object>() == nullptr)
      throw Refusal(400, "the body is " + JsonObject::describe(json) + ", expected a JSON object");
  }
  /// A field; null where it is absent.
  const Json& at(const char* name) {
    read_.push_back(name);
    const Json* found = json_.find(name);
    return found != nullptr ? *found : null;
  }
  bool truth(const char* name) {
    const Json& json = at(name);
    if (json == null) return false;
    if (json.as<bool>() == nullptr) refuse_type(name, json, "true or false");
    return *json.as<bool>();
  }
  void number(const char* name, double& value, double least, double most, bool open = false) {
    const Json& json = at(name);
    if (json == null) return;
    const double got = JsonObject::to_double(json);
    if (!(open ? got > least : got >= least) || !(got <= most))
      refuse_type(
          name, json,
          job::format("a number %s %g and at most %g", open ? "above" : "of at least", least, most)
              .c_str());
    value = got;
  }
  void whole(const char* name, std::size_t& value, std::size_t least, std::size_t most) {
    const Json& json = at(name);
    if (json == null) return;
    const auto* got = json.as<std::uint64_t>();
    if (got == nullptr || *got < least || *got > most)
      refuse_type(name, json, job::format("a whole number from %zu to %zu", least, most).c_str());
    value = static_cast<std::size_t>(*got);
  }
  /// A field that is understood, and whose wish cannot be fulfilled unless it is that for nothing.
  void only(const char* name, std::initializer_list<Json> nothing, const char* why) {
    const Json& json = at(name);
    const double number = JsonObject::to_double(json);
    for (const Json& value : nothing)
      if (json == value || (number == number && number == JsonObject::to_double(value))) return;
    if (!(json == null))
      throw Refusal(400, std::string(name) + " is not supported here" + why, name, "unsupported");
  }
  void ignore(std::initializer_list<const char*> names) {
    read_.insert(read_.end(), names.begin(), names.end());
  }
  void require_no_others() const {
    for (const auto& field : *json_.as<Json::Object>())
      if (std::find(read_.begin(), read_.end(), field.first) == read_.end())
        throw Refusal(400, ssm::detail::in_quotes(field.first) + " is no field of this call", "",
                      "unknown_parameter");
  }

 private:
  const Json& json_;
  std::vector<std::string> read_;
};

Json parse(std::string_view body) {
  ssm::detail::JsonBuilder builder;
  const auto fault = ssm::detail::parse_json_events(body, builder, {.depth = 16});
  if (!fault) return std::move(builder.root);
  const auto [line, column] = ssm::detail::line_and_column(body, fault.position);
  throw Refusal(400, "the body is not valid UTF-8 JSON at line " + std::to_string(line) +
                         ", column " + std::to_string(column) + ": " +
                         (builder.failure.empty() ? fault.what : builder.failure));
}

std::vector<Token> tokens_of(const Json::Array& list, ssm::Index vocab) {
  std::vector<Token> tokens;
  for (const Json& json : list) {
    const auto* token = json.as<std::uint64_t>();
    if (token == nullptr || *token >= static_cast<std::uint64_t>(vocab))
      refuse("prompt", "prompt has a token " + JsonObject::describe(json) +
                           ", expected whole numbers from 0 to " + std::to_string(vocab - 1));
    tokens.push_back(static_cast<Token>(*token));
  }
  return tokens;
}

void read_prompts(Call& call, const Json& prompt, bool echo, const Words& words) {
  const auto add_text = [&](const std::string& text) {
    call.prompts.push_back(words.encode(text));
    call.echoes.push_back(echo ? text : "");
  };
  const auto add_tokens = [&](const Json::Array& list) {
    call.prompts.push_back(tokens_of(list, words.vocab()));
    if (call.prompts.back().empty())
      refuse("prompt", "prompt is an empty list of tokens, expected at least one token");
    std::string text;
    if (echo)
      for (const Token token : call.prompts.back()) text += words.decode(token);
    ssm::Utf8Stream shown;
    std::string whole = shown.take(text);
    call.echoes.push_back(whole + shown.finish());
  };
  const char* want = "a text, a list of texts, a list of tokens or a list of such lists";
  if (prompt == null) return add_text("");
  if (const auto* text = prompt.as<std::string>()) return add_text(*text);
  const auto* list = prompt.as<Json::Array>();
  if (list == nullptr) refuse_type("prompt", prompt, want);
  if (list->empty()) refuse("prompt", "prompt is an empty list, expected at least one text");
  if (JsonObject::to_double(list->front()) == JsonObject::to_double(list->front()))
    return add_tokens(*list);
  if (list->size() > Limits::choices)
    refuse("prompt", "prompt is a list of " + std::to_string(list->size()) + ", expected at most " +
                         std::to_string(Limits::choices));
  for (const Json& one : *list) {
    if (const auto* text = one.as<std::string>())
      add_text(*text);
    else if (const auto* tokens = one.as<Json::Array>())
      add_tokens(*tokens);
    else
      refuse_type("prompt", one, want);
  }
}

/// A message's content: a text, or a list of parts that are texts.
std::string content_of(const Json* content, const std::string& name) {
  if (content == nullptr || *content == null) return "";
  if (const auto* text = content->as<std::string>()) return *text;
  std::string whole;
  const auto* parts = content->as<Json::Array>();
  if (parts == nullptr) refuse_type(name, *content, "a text or a list of parts");
  for (const Json& part : *parts) {
    const Json* type = part.find("type");
    const Json* text = part.find("text");
    if (type == nullptr || !(*type == Json("text")) || text == nullptr ||
        text->as<std::string>() == nullptr)
      refuse(name, name + R"( has a part that is not {"type": "text", "text": ...})");
    whole += *text->as<std::string>();
  }
  return whole;
}

void read_messages(Call& call, const Json& json, const Words& words) {
  if (words.form() == ChatForm::none)
    throw Refusal(400, words.why_no_form(), "messages", "unsupported");
  const auto* list = json.as<Json::Array>();
  if (list == nullptr) refuse_type("messages", json, "a list of messages");
  if (list->empty()) refuse("messages", "messages is empty, expected at least one");
  std::vector<Message> messages;
  for (const Json& one : *list) {
    const std::string name = "messages[" + std::to_string(messages.size()) + "]";
    if (one.as<Json::Object>() == nullptr) refuse_type(name, one, "an object");
    const Json* role = one.find("role");
    const auto* text = role != nullptr ? role->as<std::string>() : nullptr;
    std::string named = text != nullptr ? *text : "";
    if (named == "developer") named = "system";
    if (named != "system" && named != "user" && named != "assistant")
      refuse(name + ".role", name + ".role is " +
                                 (role != nullptr ? JsonObject::describe(*role) : "absent") +
                                 ", expected system, user or assistant");
    messages.push_back({named, content_of(one.find("content"), name + ".content")});
  }
  Chat chat = words.chat(messages);
  call.prompts.push_back(words.encode(chat.prompt, true));
  call.echoes.emplace_back();
  call.stops = std::move(chat.stops);
  call.skip_blanks = chat.skip_blanks;
}

void read_stops(Call& call, const Json& json) {
  std::vector<const Json*> list;
  if (const auto* texts = json.as<Json::Array>())
    for (const Json& text : *texts) list.push_back(&text);
  else if (!(json == null))
    list.push_back(&json);
  if (list.size() > Limits::stops)
    refuse("stop", "stop has " + std::to_string(list.size()) + " texts, expected at most " +
                       std::to_string(Limits::stops));
  for (const Json* stop : list) {
    const auto* text = stop->as<std::string>();
    if (text == nullptr) refuse_type("stop", *stop, "a text or a list of texts");
    if (text->empty() || text->size() > Limits::stop_bytes)
      refuse("stop", "stop has a text of " + std::to_string(text->size()) +
                         " bytes, expected from 1 to " + std::to_string(Limits::stop_bytes));
    call.stops.push_back(*text);
  }
}

void read_sampling(Fields& fields, ssm::SamplingOptions& s) {
  fields.number("temperature", s.temperature, 0, 100);
  fields.number("top_p", s.top_p, 0, 1, true);
  fields.number("min_p", s.min_p, 0, 1);
  fields.number("repetition_penalty", s.repetition_penalty, 1, 100);
  auto top_k = static_cast<std::size_t>(s.top_k);
  if (fields.at("top_k") == Json(-1))
    top_k = 0;  // as some programs say "all"
  else
    fields.whole("top_k", top_k, 0, 0x7fffffff);
  s.top_k = static_cast<ssm::Index>(top_k);
  const Json& seed = fields.at("seed");
  if (const auto* natural = seed.as<std::uint64_t>())
    s.seed = *natural;
  else if (const auto* integer = seed.as<std::int64_t>())
    s.seed = static_cast<std::uint64_t>(*integer);
  else if (seed == null)
    s.seed = std::uint64_t{std::random_device()()} << 32 | std::random_device()();
  else
    refuse_type("seed", seed, "a whole number");
  const char* other = ", repetition_penalty is";
  fields.only("frequency_penalty", {0}, other);
  fields.only("presence_penalty", {0}, other);
}

}  // namespace

Call read_call(bool chat, std::string_view body, const std::string& model, const Words& words,
               const Limits& limits, const ssm::SamplingOptions& defaults) {
  const Json json = parse(body);
  Fields fields(json);
  Call call;
  call.chat = chat;
  call.sampling = defaults;
  const Json& name = fields.at("model");
  if (!(name == null) && name.as<std::string>() == nullptr) refuse_type("model", name, "a text");
  if (!(name == null) && *name.as<std::string>() != model)
    throw Refusal(404,
                  "model is " + JsonObject::describe(name) + ", expected " +
                      ssm::detail::in_quotes(model) + ", the one that is served",
                  "model", "model_not_found");

  read_sampling(fields, call.sampling);
  call.stream = fields.truth("stream");
  const Json& options = fields.at("stream_options");
  if (!(options == null)) {
    if (!call.stream) refuse("stream_options", "stream_options is for calls with stream");
    if (options.as<Json::Object>() == nullptr) refuse_type("stream_options", options, "an object");
    Fields of_stream(options);
    call.usage = of_stream.truth("include_usage");
    of_stream.ignore({"include_obfuscation"});
    of_stream.require_no_others();
  }
  fields.whole("n", call.choices, 1, Limits::choices);
  const char* none = "";
  fields.only("logit_bias", {Json(Json::Object{})}, none);
  fields.ignore(
      {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"});
  if (chat) {
    call.most = limits.tokens;
    fields.whole("max_tokens", call.most, 1, limits.tokens);
    fields.whole("max_completion_tokens", call.most, 1, limits.tokens);
    fields.only("logprobs", {false}, none);
    fields.only("top_logprobs", {0}, none);
    fields.only("tools", {Json(Json::Array{})}, none);
    fields.only("tool_choice", {"none", "auto"}, none);
    fields.only("functions", {Json(Json::Array{})}, none);
    fields.only("function_call", {"none", "auto"}, none);
    fields.only("parallel_tool_calls", {true, false}, none);
    fields.only("response_format", {Json(Json::Object{{"type", "text"}})}, none);
    fields.only("modalities", {Json(Json::Array{"text"})}, none);
    read_messages(call, fields.at("messages"), words);
  } else {
    call.most = std::min(call.most, limits.tokens);
    fields.whole("max_tokens", call.most, 1, limits.tokens);
    fields.only("logprobs", {false}, none);
    fields.only("suffix", {""}, none);
    fields.only("best_of", {1, Json(std::uint64_t{call.choices})}, none);
    const bool echo = fields.truth("echo");
    read_prompts(call, fields.at("prompt"), echo, words);
  }
  read_stops(call, fields.at("stop"));
  fields.require_no_others();

  for (const auto& prompt : call.prompts)
    if (prompt.size() > limits.prompt)
      throw Refusal(400,
                    "the prompt has " + std::to_string(prompt.size()) +
                        " tokens, expected at most " + std::to_string(limits.prompt),
                    chat ? "messages" : "prompt", "context_length_exceeded");
  if (call.prompts.size() * call.choices > Limits::choices)
    refuse("n", "n times the prompts are " + std::to_string(call.prompts.size() * call.choices) +
                    " answers, expected at most " + std::to_string(Limits::choices));
  return call;
}

AnswerWriter::AnswerWriter(const Call& call, std::string model, std::int64_t now)
    : chat_(call.chat),
      usage_(call.usage),
      model_(std::move(model)),
      created_(static_cast<std::uint64_t>(now)) {
  std::random_device draw;
  id_ = job::format("%s-%08x%08x", chat_ ? "chatcmpl" : "cmpl", draw(), draw());
}

Json AnswerWriter::head(const char* object) const {
  return Json::Object{{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

namespace {

Json word_of(Finish finish) {
  return finish == Finish::none ? Json() : finish == Finish::stop ? Json("stop") : Json("length");
}
Json json_of(const Usage& usage) {
  return Json::Object{{"prompt_tokens", std::uint64_t{usage.prompt}},
                      {"completion_tokens", std::uint64_t{usage.written}},
                      {"total_tokens", std::uint64_t{usage.prompt + usage.written}}};
}
std::string event_with(const Json& json) { return "data: " + json.text() + "\n\n"; }

}  // namespace

std::string AnswerWriter::whole(const std::vector<Part>& choices, const Usage& usage) const {
  Json json = head(chat_ ? "chat.completion" : "text_completion");
  Json::Array list;
  for (const Part& part : choices) {
    Json choice = Json::Object{{"index", std::uint64_t{part.choice}}};
    if (chat_)
      choice["message"] = Json::Object{{"role", "assistant"}, {"content", part.text}};
    else
      choice["text"] = part.text;
    choice["logprobs"] = Json();
    choice["finish_reason"] = word_of(part.finish);
    list.push_back(std::move(choice));
  }
  json["choices"] = std::move(list);
  json["usage"] = json_of(usage);
  return json.text();
}

std::string AnswerWriter::event_of(Json choice) const {
  Json json = head(chat_ ? "chat.completion.chunk" : "text_completion");
  json["choices"] = Json::Array{std::move(choice)};
  if (usage_) json["usage"] = Json();
  return event_with(json);
}

std::string AnswerWriter::first(std::size_t choices) const {
  std::string events;
  for (std::size_t i = 0; chat_ && i < choices; ++i)
    events += event_of(Json::Object{{"index", std::uint64_t{i}},
                                    {"delta", Json::Object{{"role", "assistant"}, {"content", ""}}},
                                    {"logprobs", Json()},
                                    {"finish_reason", Json()}});
  return events;
}

std::string AnswerWriter::event(const Part& part) const {
  Json choice = Json::Object{{"index", std::uint64_t{part.choice}}};
  if (chat_) {
    Json delta = Json::Object{};
    if (!part.text.empty()) delta["content"] = part.text;
    choice["delta"] = std::move(delta);
  } else {
    choice["text"] = part.text;
  }
  choice["logprobs"] = Json();
  choice["finish_reason"] = word_of(part.finish);
  return event_of(std::move(choice));
}

std::string AnswerWriter::last(const Usage& usage) const {
  std::string events;
  if (usage_) {
    Json json = head(chat_ ? "chat.completion.chunk" : "text_completion");
    json["choices"] = Json::Array{};
    json["usage"] = json_of(usage);
    events = event_with(json);
  }
  return events + "data: [DONE]\n\n";
}

std::string error_json(int status, const std::string& message, const std::string& param,
                       const std::string& code) {
  const char* type = status == 429   ? "rate_limit_error"
                     : status == 404 ? "not_found_error"
                     : status < 500  ? "invalid_request_error"
                                     : "server_error";
  Json error = Json::Object{{"message", message}, {"type", type}};
  error["param"] = param.empty() ? Json() : Json(param);
  error["code"] = code.empty() ? Json() : Json(code);
  Json json;
  json["error"] = std::move(error);
  return json.text();
}

}  // namespace serve
