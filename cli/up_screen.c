#include "cli/up_screen.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/attr.h"
#include "cli/json_view.h"

#define CURVE_ROWS_MIN 3u
#define CURVE_ROWS_MAX 10u
#define CURVE_LEFT     9u  /* columns before the curve: margin, label, axis */
#define HEAD_LINES     4u  /* above the curve */
#define ROWS_MIN       12u /* below that only the head and the reason are shown */
#define LINE_BYTES     2048u
#define TELL_WHY_MS    5000 /* a reason that holds so long is told where there is no picture */
#define RATE_MS        2000

#define BOLD  "1"
#define DIM   "2"
#define RED   "31"
#define GREEN "32"

/* ---- the terminal ------------------------------------------------------------------------ */

static bool says_utf8(const char *value)
{
    return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
}

/* As setlocale(3) would find it: the first of three that is set. */
static bool env_is_utf8(void)
{
    static const char *const name[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        const char *value = getenv(name[i]);

        if (value && *value)
            return says_utf8(value);
    }
    return false;
}

void screen_init(struct screen *s, FILE *to, int64_t now_ms)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");

    memset(s, 0, sizeof(*s));
    s->to = to;
    s->is_terminal = isatty(fileno(to)) && term && strcmp(term, "dumb") != 0;
    s->is_utf8 = env_is_utf8();
    s->has_colour = !no_colour || !*no_colour;
    s->rows = 24;
    s->cols = 80;
    s->version = s->first_version = -1;
    s->stride = 1;
    s->reward = s->best = NAN;
    s->start_ms = s->tokens_ms = now_ms;
    buf_init(&s->picture, 1u << 20);
}

void screen_clear(struct screen *s)
{
    buf_clear(&s->picture);
}

/* True if the window has changed its size: what stands there has been moved and broken. */
static bool has_resized(struct screen *s)
{
    struct winsize w;
    unsigned rows = s->rows, cols = s->cols;

    if (ioctl(fileno(s->to), TIOCGWINSZ, &w) || !w.ws_row || !w.ws_col)
        return false;
    s->rows = w.ws_row;
    s->cols = w.ws_col;
    return s->rows != rows || s->cols != cols;
}

static const char *style(const struct screen *s, const char *code)
{
    if (!s->has_colour)
        return "";
    return !strcmp(code, BOLD)  ? "\x1b[1m"
           : !strcmp(code, DIM) ? "\x1b[2m"
           : !strcmp(code, RED) ? "\x1b[31m"
                                : "\x1b[32m";
}

static const char *plain(const struct screen *s)
{
    return s->has_colour ? "\x1b[0m" : "";
}

/* How many bytes of `text` are shown in `cols` columns. A style takes none, and neither does a
 * byte that continues a character. */
static size_t fitting(const char *text, unsigned cols)
{
    size_t i = 0;

    for (unsigned used = 0; text[i]; i++) {
        if (text[i] == '\x1b') {
            i += strcspn(text + i, "m");
            if (!text[i])
                break;
            continue;
        }
        if (((unsigned char)text[i] & 0xc0) == 0x80)
            continue;
        if (used++ == cols)
            break;
    }
    return i;
}

/* One line of the picture. The last column stays free: a character there would leave the cursor
 * in a place on which terminals do not agree. */
static void line(struct screen *s, const char *fmt, ...) PRINTF(2, 3);
static void line(struct screen *s, const char *fmt, ...)
{
    char text[LINE_BYTES];
    va_list ap;

    if (s->lines + 1 >= s->rows)
        return; /* the cursor's own line is the last */
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_append(&s->picture, (struct bytes){(const uint8_t *)text,
                                           fitting(text, s->cols > 1 ? s->cols - 1 : 1)});
    buf_printf(&s->picture, "%s\x1b[K\n", plain(s));
    s->lines++;
}

/* A text from outside, without what would move the cursor. */
static const char *clean(char out[SCREEN_TEXT_BYTES], const char *text)
{
    snprintf(out, SCREEN_TEXT_BYTES, "%s", text);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return out;
}

/* ---- numbers ----------------------------------------------------------------------------- */

void screen_number(char text[16], int64_t n)
{
    static const char unit[] = " kMGTPE";
    double v = fabs((double)n);
    int i = 0;

    if (v < 10000) {
        snprintf(text, 16, "%" PRId64, n);
        return;
    }
    while (v >= 999.5 && unit[i + 1]) { /* 999.5 would be printed as 1000 */
        v /= 1000;
        i++;
    }
    snprintf(text, 16, "%s%.*f%c", n < 0 ? "-" : "",
             v < 9.995   ? 2
             : v < 99.95 ? 1
                         : 0,
             v, unit[i]);
}

struct number {
    char text[16];
};

static struct number number(int64_t n)
{
    struct number x;

    screen_number(x.text, n);
    return x;
}

static struct number number_of(const json_t *o, const char *key)
{
    return number(json_view_int(o, key));
}

/* "-" before the first. */
static struct number version_of(const json_t *o)
{
    struct number x = number_of(o, "version");

    if (json_view_int(o, "version") < 0)
        memcpy(x.text, "-", 2);
    return x;
}

struct span {
    char text[40];
};

static struct span span(int64_t ms)
{
    long long s = (long long)(ms / 1000);
    struct span x;

    if (s < 60)
        snprintf(x.text, sizeof(x.text), "%lld s", s);
    else if (s < 3600)
        snprintf(x.text, sizeof(x.text), "%lld min %02lld s", s / 60, s % 60);
    else
        snprintf(x.text, sizeof(x.text), "%lld h %02lld min", s / 3600, s / 60 % 60);
    return x;
}

/* ---- the curve --------------------------------------------------------------------------- */

static void curve_add(struct screen *s, int64_t version, double reward)
{
    while ((version - 1) / s->stride >= (int64_t)SCREEN_BINS) {
        for (size_t i = 0; i < SCREEN_BINS; i++) {
            bool has_two = 2 * i + 1 < SCREEN_BINS;

            s->sum[i] = has_two ? s->sum[2 * i] + s->sum[2 * i + 1] : 0.0;
            s->count[i] = has_two ? s->count[2 * i] + s->count[2 * i + 1] : 0;
        }
        s->stride *= 2;
    }
    s->sum[(version - 1) / s->stride] += reward;
    s->count[(version - 1) / s->stride]++;
    s->reward = reward;
    s->best = isnan(s->best) || reward > s->best ? reward : s->best;
}

double screen_column(const struct screen *s, unsigned x, unsigned width)
{
    size_t used = s->version < 1 ? 0 : (size_t)((s->version - 1) / s->stride) + 1;
    size_t span_of_all = used < width ? width : used;
    size_t lo = x * span_of_all / width, hi = (x + 1) * span_of_all / width;
    double sum = 0.0;
    unsigned count = 0;

    for (size_t i = lo; i < hi && i < used; i++) {
        sum += s->sum[i];
        count += s->count[i];
    }
    return count ? sum / count : NAN;
}

/* The least of 0.1, 0.2, 0.25, 0.5, 0.75 and 1, times a power of ten, that is not below v > 0. */
static double round_up(double v)
{
    static const double step[] = {0.1, 0.2, 0.25, 0.5, 0.75, 1};
    double scale = pow(10, ceil(log10(v)));

    for (size_t i = 0; i < sizeof(step) / sizeof(step[0]); i++)
        if (step[i] * scale >= v)
            return step[i] * scale;
    return scale * 10;
}

struct range {
    double lo, hi;
};

static struct range range_of(const double *v, size_t n)
{
    double lo = 0, hi = 0;

    for (size_t i = 0; i < n; i++) {
        lo = v[i] < lo ? v[i] : lo; /* NaN is neither */
        hi = v[i] > hi ? v[i] : hi;
    }
    lo = lo < 0 ? -round_up(-lo) : 0;
    hi = hi > 0 ? round_up(hi) : 0;
    return (struct range){lo, hi > lo ? hi : lo + 1};
}

/* The cell at `row` (0: the lowest) of a bar that is `height` cells high. */
static const char *cell(const struct screen *s, double height, unsigned row)
{
    static const char *const block[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {" ", ".", ":", "#"};
    int n = s->is_utf8 ? 8 : 3;
    double part = height - row;
    int level = isnan(part) ? 0 : part >= 1 ? n : part <= 0 ? 0 : (int)ceil(part * n);

    return s->is_utf8 ? block[level] : ascii[level];
}

static void draw_curve(struct screen *s, unsigned n_rows)
{
    unsigned width = s->cols > CURVE_LEFT + 12 ? s->cols - CURVE_LEFT - 2 : 10;
    double v[1024], last = NAN;
    struct range r;

    width = width < 1024 ? width : 1024;
    for (unsigned x = 0; x < width; x++)
        v[x] = screen_column(s, x, width);
    r = range_of(v, width);
    for (unsigned row = n_rows; row-- > 0;) {
        char text[LINE_BYTES] = "";
        size_t len = 0;

        for (unsigned x = 0; x < width && len + 8 < sizeof(text); x++) {
            /* A version that nobody saw go by is as the one before it. */
            double h = isnan(v[x]) && s->version > 0 && x < s->version ? last : v[x];
            const char *c = cell(s, (h - r.lo) / (r.hi - r.lo) * n_rows, row);

            last = h;
            memcpy(text + len, c, strlen(c) + 1);
            len += strlen(c);
        }
        if (row == n_rows - 1)
            line(s, "%7.2f %s%s%s", r.hi, s->is_utf8 ? "┤" : "|", style(s, GREEN), text);
        else
            line(s, "%7s %s%s%s", "", s->is_utf8 ? "│" : "|", style(s, GREEN), text);
    }
    if (s->version < 1)
        line(s, "%7.2f %s%s no version was trained yet", r.lo, s->is_utf8 ? "└" : "+",
             style(s, DIM));
    else
        line(s, "%7.2f %s%s versions 1 to %" PRId64 "; reward %.3f, at best %.3f", r.lo,
             s->is_utf8 ? "└" : "+", style(s, DIM), s->version, s->reward, s->best);
}

/* ---- the other parts --------------------------------------------------------------------- */

static int64_t max_staleness(const json_t *status)
{
    const json_t *bins = json_object_get(status, "staleness");
    int64_t most = 0;

    for (size_t i = 0; i < json_array_size(bins); i++)
        if (json_integer_value(json_array_get(bins, i)) > 0)
            most = (int64_t)i;
    return most;
}

static void draw_bar(const struct screen *s, char *out, size_t size, int64_t done, int64_t all)
{
    unsigned width = s->cols > 100 ? 40 : s->cols > 60 ? 24 : 10;
    unsigned full = all > 0 && done > 0 ? (unsigned)(done * width / all) : 0;
    size_t len = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < width && len + 4 < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s",
                                s->is_utf8 ? i < full ? "█" : "░"
                                : i < full ? "#"
                                           : ".");
}

static void draw_head(struct screen *s, const json_t *status, int64_t now_ms)
{
    const json_t *task = json_object_get(status, "task");
    const json_t *units = json_object_get(status, "units");
    const json_t *money = json_object_get(status, "money");
    int64_t version = json_view_int(status, "version"), steps = json_view_int(status, "steps");
    int64_t made = version - s->first_version, wrong = 0, late = 0;
    char name[SCREEN_TEXT_BYTES], bar[256], left[64] = "";

    if (s->first_version >= 0 && made > 0 && version < steps)
        snprintf(left, sizeof(left), ", about %s left",
                 span((now_ms - s->first_ms) / made * (steps - version)).text);
    line(s, "%smuster  %s%s  %s, %s%s", style(s, BOLD),
         clean(name, json_view_text(task, "name")), plain(s), json_view_text(status, "state"),
         span(now_ms - s->start_ms).text, left);
    draw_bar(s, bar, sizeof(bar), version, steps);
    line(s, "  version %s of %" PRId64 " %s%s%s  %.0f tokens/s, staleness %" PRId64,
         version_of(status).text, steps, style(s, GREEN), bar, plain(s), s->tokens_s,
         max_staleness(status));
    json_view_refused(json_object_get(status, "refused"), &wrong, &late);
    line(s,
         "  %sunits%s  %s accepted, %s leased, %s being checked; %s refused, %s late, %s flat",
         style(s, DIM), plain(s), number_of(status, "accepted").text,
         number_of(units, "leased").text, number_of(units, "committed").text,
         number(wrong).text, number(late).text, number_of(units, "flat").text);
    line(s, "  %sucr%s    escrow %s, workers %s, validators %s, trainer %s, %sslashed %s",
         style(s, DIM), plain(s), number_of(money, "escrow").text,
         number_of(money, "workers").text, number_of(money, "validators").text,
         number_of(money, "trainer").text, json_view_int(money, "slashed") ? style(s, RED) : "",
         number_of(money, "slashed").text);
}

static bool is_barred(const json_t *node)
{
    return json_is_true(json_object_get(node, "barred"));
}

/* In the order in which roles are listed; those that are not listed are initiators. */
static const char *const shown_role[] = {"trainer", "inference", "verifier", "relay"};
#define SHOWN_ROLES (sizeof(shown_role) / sizeof(shown_role[0]))

static bool is_shown(const json_t *node)
{
    return strcmp(json_view_text(node, "role"), "initiator") != 0;
}

static void draw_node(struct screen *s, const json_t *n)
{
    char refused[256] = "";
    const char *name;
    json_t *count, *all = json_object_get(n, "refused");
    size_t len = 0;

    json_object_foreach(all, name, count) if (len < sizeof(refused)) len +=
        (size_t)snprintf(refused + len, sizeof(refused) - len, "  %s %" JSON_INTEGER_FORMAT,
                         name, json_integer_value(count));
    line(s, "  %-8.8s  %-9.9s %7s %8s %7s %7s %7s %8s%s%s%s%s", json_view_text(n, "node"),
         json_view_text(n, "role"), version_of(n).text,
         number(json_view_int(n, "accepted") + json_view_int(n, "verdicts")).text,
         number_of(n, "tokens").text, number_of(n, "stake").text, number_of(n, "pending").text,
         number_of(n, "earned").text, is_barred(n) ? style(s, RED) : "",
         is_barred(n)                                ? "  BARRED"
         : json_is_true(json_object_get(n, "alive")) ? ""
                                                     : "  silent",
         plain(s), refused);
}

/* A title and what fits into `rows` lines; barred nodes are the last to be left out. */
static void draw_nodes(struct screen *s, const json_t *nodes, unsigned rows)
{
    unsigned n_all = 0, n_barred = 0, n_others, left;
    size_t i;
    json_t *n;

    json_array_foreach(nodes, i, n)
    {
        n_all += is_shown(n);
        n_barred += is_shown(n) && is_barred(n);
    }
    if (rows < 2 || !n_all)
        return;
    left = n_all < rows ? n_all : rows - 2; /* the title, and a line for the rest */
    n_others = left > n_barred ? left - n_barred : 0;
    n_barred = left - n_others;
    line(s, "  %s%-8s  %-9s %7s %8s %7s %7s %7s %8s", style(s, DIM), "node", "role", "version",
         "accepted", "tokens", "stake", "pending", "earned");
    for (size_t role = 0; role < SHOWN_ROLES; role++)
        json_array_foreach(nodes, i, n)
        {
            unsigned *room = is_barred(n) ? &n_barred : &n_others;

            if (strcmp(json_view_text(n, "role"), shown_role[role]) != 0 || !*room)
                continue;
            --*room;
            draw_node(s, n);
        }
    if (left < n_all)
        line(s, "  %sand %u more", style(s, DIM), n_all - left);
}

static unsigned n_shown(const json_t *nodes)
{
    unsigned count = 0;
    size_t i;
    json_t *n;

    json_array_foreach(nodes, i, n) count += is_shown(n);
    return count;
}

/* Who gets the window's lines: the head and the reason; then a curve of three rows with its axis;
 * then nodes; then more of the curve. Blank lines part them where there is room. */
static void draw(struct screen *s, const json_t *status, const char *note, int64_t now_ms)
{
    const json_t *nodes = json_object_get(status, "nodes");
    unsigned left, curve, wanted = n_shown(nodes) + 1;
    bool has_gaps, was_resized = has_resized(s);
    char why[SCREEN_TEXT_BYTES];

    buf_reset(&s->picture);
    if (was_resized)
        buf_printf(&s->picture, "\x1b[H\x1b[2J");
    else if (s->lines)
        buf_printf(&s->picture, "\x1b[%uA\r", s->lines);
    s->lines = 0;
    draw_head(s, status, now_ms);
    if (s->rows >= ROWS_MIN) {
        left = s->rows - 1 - HEAD_LINES - 1; /* the cursor's line; the head; the reason */
        has_gaps = left >= CURVE_ROWS_MIN + 1 + 2 + 3;
        left -= has_gaps ? 2 : 0;
        curve = left > wanted + 1 + CURVE_ROWS_MIN ? left - wanted - 1 : CURVE_ROWS_MIN;
        curve = curve < CURVE_ROWS_MAX ? curve : CURVE_ROWS_MAX;
        if (has_gaps)
            line(s, "%s", "");
        draw_curve(s, curve);
        if (has_gaps)
            line(s, "%s", "");
        draw_nodes(s, nodes, left - curve - 1);
    }
    line(s, "  %s%s", note ? style(s, RED) : "",
         clean(why, note ? note : json_view_text(status, "why")));
    buf_printf(&s->picture, "\x1b[J");
    fwrite(s->picture.data, 1, s->picture.len, s->to);
    fflush(s->to);
}

/* ---- what is new ------------------------------------------------------------------------- */

/* Version 0 has no rewards before it. */
static void print_version(const struct screen *s, int64_t v, int64_t steps, const json_t *o,
                          int64_t now_ms)
{
    const json_t *reward = json_object_get(o, "reward");

    fprintf(s->to, "version %" PRId64 "/%" PRId64, v, steps);
    if (json_is_number(reward))
        fprintf(s->to, " reward %.3f", json_number_value(reward));
    fprintf(s->to, " loss %.4f tokens %lld paid %lld ucr t %.1f s\n",
            json_number_value(json_object_get(o, "loss")), json_view_int(o, "tokens"),
            json_view_int(o, "paid"), (double)(now_ms - s->start_ms) / 1000.0);
}

static void follow_versions(struct screen *s, const json_t *status, int64_t now_ms)
{
    const json_t *recent = json_object_get(status, "recent");
    size_t i;
    json_t *o;

    json_array_foreach(recent, i, o)
    {
        int64_t v = json_view_int(o, "version");
        const json_t *reward = json_object_get(o, "reward");

        if (v <= s->version)
            continue;
        s->version = v;
        if (v > 0 && json_is_number(reward))
            curve_add(s, v, json_number_value(reward));
        if (!s->is_terminal)
            print_version(s, v, json_view_int(status, "steps"), o, now_ms);
    }
    if (s->first_version < 0 && s->version >= 0) {
        s->first_version = s->version;
        s->first_ms = now_ms;
    }
}

static void follow_nodes(struct screen *s, const json_t *nodes, int64_t now_ms)
{
    size_t i, barred = 0;
    int64_t tokens = 0;
    json_t *o;

    json_array_foreach(nodes, i, o)
    {
        tokens += json_view_int(o, "tokens");
        barred += is_barred(o);
        if (!s->is_terminal && is_barred(o) && barred > s->n_barred)
            fprintf(s->to,
                    "barred %.8s (%s): its stake is slashed, its key revoked, and it is not "
                    "started again\n",
                    json_view_text(o, "node"), json_view_text(o, "role"));
    }
    s->n_barred = barred > s->n_barred ? barred : s->n_barred;
    if (now_ms - s->tokens_ms >= RATE_MS) {
        s->tokens_s = (double)(tokens - s->tokens) * 1000.0 / (double)(now_ms - s->tokens_ms);
        s->tokens = tokens;
        s->tokens_ms = now_ms;
    }
}

static void tell_note(struct screen *s, const char *note)
{
    char text[SCREEN_TEXT_BYTES];

    if (!strcmp(clean(text, note ? note : ""), s->note))
        return;
    memcpy(s->note, text, sizeof(text));
    if (note)
        fprintf(s->to, "%s\n", text);
}

/* Whether two reasons differ in more than their numbers: one says how many milliseconds a lease
 * still has. */
static bool differs(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, "0123456789");
        b += strspn(b, "0123456789");
        if (*a != *b || !*a)
            return *a != *b;
    }
}

static void tell_wait(struct screen *s, const json_t *status, int64_t now_ms)
{
    char why[SCREEN_TEXT_BYTES];

    if (differs(clean(why, json_view_text(status, "why")), s->why) ||
        s->why_version != s->version) {
        memcpy(s->why, why, sizeof(why));
        s->why_version = s->version;
        s->why_ms = now_ms;
        s->was_told = false;
    } else if (*why && !s->was_told && now_ms - s->why_ms >= TELL_WHY_MS) {
        fprintf(s->to, "waits: %s\n", why);
        s->was_told = true;
    }
}

void screen_update(struct screen *s, const json_t *status, const char *note, int64_t now_ms)
{
    follow_versions(s, status, now_ms);
    follow_nodes(s, json_object_get(status, "nodes"), now_ms);
    if (s->is_terminal) {
        draw(s, status, note, now_ms);
        return;
    }
    tell_note(s, note);
    tell_wait(s, status, now_ms);
    fflush(s->to);
}

void screen_end(struct screen *s)
{
    s->lines = 0;
    fflush(s->to);
}
