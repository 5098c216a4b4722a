#include "engine/pretokenize.h"

#include <string.h>

#include "base/attr.h"
#include "engine/utf8.h"

#define BIT(class) (1u << (class))
#define LETTER     (BIT(UTF8_LU) | BIT(UTF8_LL) | BIT(UTF8_LT) | BIT(UTF8_LM) | BIT(UTF8_LO))
#define MARK       BIT(UTF8_M)
#define NUMBER     BIT(UTF8_N)
#define SPACE      BIT(UTF8_SPACE)
#define UPPER      (BIT(UTF8_LU) | BIT(UTF8_LT) | BIT(UTF8_LM) | BIT(UTF8_LO) | MARK)
#define LOWER      (BIT(UTF8_LL) | BIT(UTF8_LM) | BIT(UTF8_LO) | MARK)
#define ALL        0xffffffffu

/* What stands at `at`: its class as a bit, and the place after it. 0 at the end. */
struct here {
    uint32_t bit;
    uint32_t point;
    size_t end;
};

ALWAYS_INLINE struct here look(const uint8_t *classes, struct bytes text, size_t at)
{
    struct here h = {0, 0, at};

    if (at < text.len) {
        h.point = utf8_get(text.data, &h.end);
        h.bit = BIT(classes[h.point] & UTF8_CLASS);
    }
    return h;
}

/* The end of the run from `at` of characters of these classes, of at most `most`. */
ALWAYS_INLINE size_t run(const uint8_t *classes, struct bytes text, size_t at, uint32_t of,
                         size_t most)
{
    while (most-- > 0) {
        struct here h = look(classes, text, at);

        if (!(h.bit & of))
            break;
        at = h.end;
    }
    return at;
}

static bool is_newline(struct bytes text, size_t at)
{
    return at < text.len && (text.data[at] == '\n' || text.data[at] == '\r');
}

static size_t newlines(struct bytes text, size_t at)
{
    while (is_newline(text, at))
        at++;
    return at;
}

/* 's 't 're 've 'm 'll 'd at `at`; returns `at` if there is none. `any_case` is (?i:...), which
 * takes U+017F, the long s, for an s. */
static size_t contraction(struct bytes text, size_t at, bool any_case)
{
    static const char *const tails[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    const uint8_t *p = text.data + at + 1;
    size_t left = text.len - at - 1;

    if (text.data[at] != '\'')
        return at;
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        size_t n = strlen(tails[i]), same = 0;

        while (same < n && same < left &&
               (any_case && p[same] < 0x80 ? p[same] | 0x20 : p[same]) == tails[i][same])
            same++;
        if (same == n)
            return at + 1 + n;
    }
    if (any_case && left >= 2 && p[0] == 0xc5 && p[1] == 0xbf)
        return at + 3;
    return at;
}

/* \s+(?!\S)|\s+ : a run of spaces up to the last, which goes to the word that follows; all of it
 * at the end of the text; one that stands alone. */
static size_t spaces(const uint8_t *classes, struct bytes text, size_t at)
{
    size_t last = at;

    for (size_t next = at;;) {
        struct here h = look(classes, text, next);

        if (h.bit == 0)
            return next;
        if (!(h.bit & SPACE))
            return last > at ? last : next;
        last = next;
        next = h.end;
    }
}

size_t pretokenize_gpt2(const uint8_t *classes, struct bytes text, size_t at)
{
    size_t end = contraction(text, at, false);

    if (end > at)
        return end;
    struct here h = look(classes, text, at);
    if (h.point == ' ') {
        struct here next = look(classes, text, h.end);

        if (next.bit && !(next.bit & SPACE))
            h = next;
    }
    if (h.bit & LETTER)
        return run(classes, text, h.end, LETTER, SIZE_MAX);
    if (h.bit & NUMBER)
        return run(classes, text, h.end, NUMBER, SIZE_MAX);
    if (!(h.bit & SPACE))
        return run(classes, text, h.end, ALL & ~(LETTER | NUMBER | SPACE), SIZE_MAX);
    return spaces(classes, text, at);
}

/* \s*[\r\n]+ : the end of the last newline in the run of spaces at `at`; 0: there is none. */
static size_t up_to_newline(const uint8_t *classes, struct bytes text, size_t at)
{
    size_t end = 0;

    for (struct here h = look(classes, text, at); h.bit & SPACE; h = look(classes, text, h.end))
        if (h.point == '\n' || h.point == '\r')
            end = h.end;
    return end;
}

/* What the expressions of Llama 3 and Qwen have in common after the contractions:
 * [^\r\n\p{L}\p{N}]?LETTERS+|\p{N}{1,DIGITS}| ?[^\s LETTERS \p{N}]+[\r\n]*|\s*[\r\n]+|...
 * where the first class leaves out \p{L} and \p{N}, whatever LETTERS are. */
ALWAYS_INLINE size_t cut_llama(const uint8_t *classes, struct bytes text, size_t at,
                               uint32_t letters, size_t digits)
{
    size_t end = contraction(text, at, true);

    if (end > at)
        return end;
    struct here h = look(classes, text, at), next = {0};
    const bool may_lead = !(h.bit & (LETTER | NUMBER)) && !is_newline(text, at);

    if (may_lead || h.point == ' ')
        next = look(classes, text, h.end);
    if (may_lead && next.bit & letters)
        return run(classes, text, next.end, letters, SIZE_MAX);
    if (h.bit & letters)
        return run(classes, text, h.end, letters, SIZE_MAX);
    if (h.bit & NUMBER)
        return run(classes, text, h.end, NUMBER, digits - 1);
    const uint32_t others = ALL & ~(letters | NUMBER | SPACE);
    if (h.point == ' ' && next.bit & others)
        h = next;
    if (h.bit & others)
        return newlines(text, run(classes, text, h.end, others, SIZE_MAX));
    end = up_to_newline(classes, text, at);
    return end ? end : spaces(classes, text, at);
}

static size_t cut_llama3(const uint8_t *classes, struct bytes text, size_t at)
{
    return cut_llama(classes, text, at, LETTER, 3);
}

static size_t cut_qwen2(const uint8_t *classes, struct bytes text, size_t at)
{
    return cut_llama(classes, text, at, LETTER, 1);
}

static size_t cut_qwen35(const uint8_t *classes, struct bytes text, size_t at)
{
    return cut_llama(classes, text, at, LETTER | MARK, 1);
}

/* [UPPER]*[LOWER]+ at `from`, where classes overlap: the first part may have to give back its last
 * character that may be either. 0: no match. */
static size_t lower_word(const uint8_t *classes, struct bytes text, size_t from)
{
    size_t upper = from, back = 0;

    for (struct here h = look(classes, text, upper); h.bit & UPPER;
         h = look(classes, text, upper)) {
        if (h.bit & LOWER)
            back = h.end;
        upper = h.end;
    }
    size_t end = run(classes, text, upper, LOWER, SIZE_MAX);
    return end > upper ? end : back;
}

/* Tekken's words, in the order in which its expression tries them:
 * LEAD?[UPPER]*[LOWER]+|LEAD?[UPPER]+[LOWER]* with LEAD = [^\r\n\p{L}\p{N}], which a mark is too.
 * Where the first fails, nothing of LOWER is left for the second. 0: neither. */
static size_t tekken_word(const uint8_t *classes, struct bytes text, size_t at)
{
    const struct here h = look(classes, text, at);
    const bool may_lead = !(h.bit & (LETTER | NUMBER)) && !is_newline(text, at);
    size_t end = may_lead ? lower_word(classes, text, h.end) : 0;

    if (end == 0)
        end = lower_word(classes, text, at);
    if (end == 0 && may_lead) {
        end = run(classes, text, h.end, UPPER, SIZE_MAX);
        end = end > h.end ? end : 0;
    }
    if (end == 0) {
        end = run(classes, text, at, UPPER, SIZE_MAX);
        end = end > at ? end : 0;
    }
    return end;
}

static size_t cut_tekken(const uint8_t *classes, struct bytes text, size_t at)
{
    struct here h = look(classes, text, at), next;
    const uint32_t others = ALL & ~(LETTER | NUMBER | SPACE);
    size_t end = tekken_word(classes, text, at);

    if (end)
        return end;
    if (h.bit & NUMBER)
        return h.end;
    next = look(classes, text, h.end);
    if (h.point == ' ' && next.bit & others)
        h = next;
    if (h.bit & others) {
        end = run(classes, text, h.end, others, SIZE_MAX);
        while (is_newline(text, end) || (end < text.len && text.data[end] == '/'))
            end++;
        return end;
    }
    end = up_to_newline(classes, text, at);
    return end ? end : spaces(classes, text, at);
}

size_t pretokenize_digit(const uint8_t *classes, struct bytes text, size_t at)
{
    struct here h = look(classes, text, at);

    return h.bit & NUMBER ? h.end : run(classes, text, h.end, ALL & ~NUMBER, SIZE_MAX);
}

size_t pretokenize_digits(const uint8_t *classes, struct bytes text, size_t at)
{
    struct here h = look(classes, text, at);

    return run(classes, text, h.end, h.bit & NUMBER ? NUMBER : ALL & ~NUMBER, SIZE_MAX);
}

#define ANY_CASE  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define THE_SPACE "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

pretokenize_cut *pretokenize_find(struct bytes regex)
{
    static const struct {
        const char *regex;
        pretokenize_cut *cut;
    } known[] = {
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         pretokenize_gpt2},
        {ANY_CASE "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" //
         THE_SPACE,
         cut_llama3},
        {ANY_CASE "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" //
         THE_SPACE,
         cut_qwen2},
        {ANY_CASE "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                  " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" THE_SPACE,
         cut_qwen35},
        {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{"
         "M}]"
         "+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}"
         "\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" THE_SPACE,
         cut_tekken},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (bytes_equal(regex, bytes_str(known[i].regex)))
            return known[i].cut;
    return NULL;
}
