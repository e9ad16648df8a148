// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Mutate.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace kvcache::fuzz;
using llvm::SmallVector;
using llvm::StringRef;

static bool isWordChar(char c) {
  return llvm::isAlnum(c) || c == '_' || c == '$' || c == '.';
}

/// Strings, names with their prefix, numbers, and single characters.
static SmallVector<StringRef> tokensOf(StringRef text) {
  SmallVector<StringRef> tokens;
  while (!(text = text.ltrim()).empty()) {
    size_t size = 1;
    if (text[0] == '"')
      size = std::min(text.find('"', 1), text.size() - 1) + 1;
    else if (isWordChar(text[0]) || StringRef("%@!#^").contains(text[0]))
      while (size < text.size() && isWordChar(text[size]))
        ++size;
    tokens.push_back(text.take_front(size));
    text = text.drop_front(size);
  }
  return tokens;
}

/// `part` is in `text`.
static std::string replaceOne(StringRef text, StringRef part, StringRef with) {
  size_t begin = part.data() - text.data();
  return (text.take_front(begin) + with + text.drop_front(begin + part.size()))
      .str();
}

/// All tokens that are like this one.
static std::string replaceAll(StringRef text, StringRef token, StringRef with) {
  std::string made;
  const char *end = text.data();
  for (StringRef other : tokensOf(text)) {
    made.append(end, other.data());
    made += (other == token ? with : other).str();
    end = other.end();
  }
  return made.append(end, text.end());
}

static std::string replaceSomewhere(StringRef text, StringRef part,
                                    StringRef with, Random &random) {
  return pick(random, 2) ? replaceAll(text, part, with)
                         : replaceOne(text, part, with);
}

template <typename Predicate>
static StringRef pickToken(StringRef text, Random &random,
                           Predicate predicate) {
  SmallVector<StringRef> found =
      llvm::filter_to_vector(tokensOf(text), predicate);
  return found.empty() ? StringRef() : pickFrom(random, found);
}

static std::string replaceNumber(StringRef text, Random &random) {
  // `16N` and `4xf32` hold numbers as well.
  StringRef token = pickToken(text, random, [](StringRef token) {
    return llvm::isDigit(token[0]) || token == "?";
  });
  if (token.empty())
    return "";
  static constexpr StringRef kNumbers[] = {"0",
                                           "1",
                                           "2",
                                           "3",
                                           "4",
                                           "5",
                                           "7",
                                           "8",
                                           "15",
                                           "16",
                                           "17",
                                           "32",
                                           "64",
                                           "128",
                                           "255",
                                           "4096",
                                           "1048576",
                                           "2147483647",
                                           "4294967296",
                                           "1099511627776",
                                           "9223372036854775807",
                                           "?",
                                           "-1"};
  StringRef number = token == "?" ? token : token.take_while(llvm::isDigit);
  std::string with =
      (pickFrom(random, kNumbers) + token.drop_front(number.size())).str();
  return replaceSomewhere(text, token, with, random);
}

static std::string replaceElementType(StringRef text, Random &random) {
  static constexpr StringRef kTypes[] = {"bf16", "f16", "f32",   "f64",
                                         "i1",   "i8",  "i32",   "i64",
                                         "i16",  "i7",  "index", "f8E5M2"};
  StringRef token = pickToken(text, random, [](StringRef token) {
    return llvm::any_of(
               kTypes, [&](StringRef type) { return token.ends_with(type); }) &&
           (token[0] == 'b' || token[0] == 'f' || token[0] == 'i' ||
            token[0] == 'x' || llvm::isDigit(token[0]));
  });
  if (token.empty())
    return "";
  StringRef head = token;
  for (StringRef type : kTypes)
    if (head.size() == token.size())
      head.consume_back(type);
  return replaceSomewhere(text, token, (head + pickFrom(random, kTypes)).str(),
                          random);
}

static std::string replaceValue(StringRef text, Random &random) {
  auto isValue = [](StringRef token) {
    return token.size() > 1 && token[0] == '%';
  };
  StringRef token = pickToken(text, random, isValue);
  return token.empty()
             ? ""
             : replaceOne(text, token, pickToken(text, random, isValue));
}

/// Names of operations, axes, attributes and aliases.
static std::string replaceWord(StringRef text, Random &random) {
  auto isWord = [](StringRef token) {
    return llvm::isAlpha(token[0]) ||
           (token.size() > 1 && (token[0] == '!' || token[0] == '@'));
  };
  StringRef token = pickToken(text, random, isWord);
  if (token.empty())
    return "";
  auto isAlike = [&](StringRef other) {
    return isWord(other) &&
           llvm::isAlpha(other[0]) == llvm::isAlpha(token[0]) &&
           other.contains('.') == token.contains('.') &&
           (other.size() == 1) == (token.size() == 1);
  };
  return replaceSomewhere(text, token, pickToken(text, random, isAlike),
                          random);
}

static std::string changeToken(StringRef text, Random &random) {
  StringRef token = pickToken(text, random, [](StringRef) { return true; });
  if (token.empty())
    return "";
  StringRef other = pickToken(text, random, [](StringRef) { return true; });
  switch (pick(random, 3)) {
  case 0:
    return replaceOne(text, token, "");
  case 1:
    return replaceOne(text, token, (token + " " + token).str());
  default:
    return replaceOne(text, token, other);
  }
}

/// What a cache type or a function may say besides.
static std::string addWords(StringRef text, Random &random) {
  static constexpr StringRef kFacts[] = {", align = 1",
                                         ", align = 2",
                                         ", align = 64",
                                         ", access = read",
                                         ", strides = [B = ?]",
                                         ", strides = [B = ? mult 16]",
                                         ", strides = [S = ?]",
                                         ", strides = [N = ? mult 8]",
                                         ", strides = [H = ?]",
                                         ", order = [B, S, H, N, D]",
                                         ", order = [B, H, S, N, D]",
                                         ", order = [H, B, S, N, D]",
                                         ", space = host",
                                         ", pad = none",
                                         ", pad = sink(0)",
                                         ", pad = sink(?)",
                                         ", pad = skip_out_of_range",
                                         ", pad = skip_negative",
                                         ", positions = i32",
                                         ", positions = i64"};
  StringRef type = pickToken(text, random, [](StringRef token) {
    return token.starts_with("!kvcache.");
  });
  if (type.empty())
    return "";
  size_t end = text.find('>', type.end() - text.data());
  if (end == StringRef::npos)
    return "";
  StringRef fact = pickFrom(random, kFacts);
  StringRef key = fact.take_until([](char c) { return c == '='; });
  size_t begin = type.end() - text.data();
  StringRef inside = text.slice(begin, end);
  size_t old = inside.find(key);
  // One that is there goes: types know each fact once.
  if (old != StringRef::npos)
    end = begin + old;
  size_t rest = old == StringRef::npos ? end : begin + inside.size();
  if (old != StringRef::npos && pick(random, 2))
    fact = "";
  return (text.take_front(end) + fact + text.drop_front(rest)).str();
}

static std::string changeLine(StringRef text, Random &random) {
  SmallVector<StringRef> lines;
  text.split(lines, '\n');
  StringRef line = pickFrom(random, lines), other = pickFrom(random, lines);
  switch (pick(random, 3)) {
  case 0:
    return replaceOne(text, line, "");
  case 1:
    return replaceOne(text, line, (line + "\n" + line).str());
  default:
    return replaceOne(text, line, other);
  }
}

static std::string changeVisibility(StringRef text, Random &random) {
  StringRef token = pickToken(text, random, [](StringRef token) {
    return token == "func.func" || token == "private";
  });
  if (token.empty())
    return "";
  return replaceOne(text, token, token == "private" ? "" : "func.func private");
}

/// Crashes of upstream.txt that words lead to again and again: an array of what
/// has no width, and a value with very many results.
static bool isKnownCrash(StringRef text) {
  for (size_t at = 0; (at = text.find("array<", at)) != StringRef::npos;) {
    at += 6;
    StringRef type = text.drop_front(at).ltrim();
    type.consume_front("b");
    if (type.size() < 2 || !StringRef("if").contains(type[0]) ||
        !llvm::isDigit(type[1]))
      return true;
  }
  for (size_t at = 0; (at = text.find('#', at)) != StringRef::npos;)
    if (text.drop_front(++at).take_while(llvm::isDigit).size() > 5)
      return true;
  return false;
}

std::string kvcache::fuzz::mutateText(StringRef text, Random &random) {
  using Way = std::string (*)(StringRef, Random &);
  static constexpr Way kWays[] = {
      replaceNumber, replaceNumber,   replaceElementType, replaceValue,
      replaceWord,   changeToken,     addWords,           addWords,
      changeLine,    changeVisibility};
  std::string made = pickFrom(random, kWays)(text, random);
  return made == text || isKnownCrash(made) ? "" : made;
}

/// Aliases and functions: items that begin at the left edge.
static SmallVector<StringRef> itemsOf(StringRef text) {
  SmallVector<StringRef> items;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] == '\n' && i + 1 < text.size() &&
        !StringRef(" \t\n})^").contains(text[i + 1])) {
      items.push_back(text.slice(begin, i + 1));
      begin = i + 1;
    }
  items.push_back(text.drop_front(begin));
  return items;
}

std::string kvcache::fuzz::crossText(StringRef text, StringRef other,
                                     Random &random) {
  if (pick(random, 2)) {
    SmallVector<StringRef> items = itemsOf(other);
    std::string made;
    for (StringRef item : items)
      if (StringRef("!#").contains(item.take_front()))
        made += item;
    return made + text.str() + "\n" + pickFrom(random, items).str();
  }
  SmallVector<StringRef> lines, others;
  text.split(lines, '\n');
  other.split(others, '\n');
  StringRef line = pickFrom(random, lines);
  return replaceOne(text, line, (line + "\n" + pickFrom(random, others)).str());
}
