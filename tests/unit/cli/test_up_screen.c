/*
 * What a person sees while a network runs: fed with a status as the orchestrator answers it,
 * written to a file, and read back as text or as a terminal of so many rows and columns.
 */
#include "cli/up_screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#define ROWS_MAX 64
#define COLS_MAX 256

struct fixture {
    struct screen s;
    FILE *to;
    char *text; /* of `to`, malloced */
    size_t len, seen;
    json_t *status;
    int64_t now_ms;
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.to = open_memstream(&f.text, &f.len);
    f.now_ms = 5000;
    screen_init(&f.s, f.to, f.now_ms);
    f.s.is_utf8 = f.s.has_colour = false;
    f.status = json_loads("{\"state\": \"training\", \"why\": \"the trainer makes version 1\","
                          " \"version\": 0, \"steps\": 60, \"accepted\": 0, \"recent\": [],"
                          " \"task\": {\"name\": \"small\"}, \"nodes\": [],"
                          " \"units\": {\"leased\": 3, \"committed\": 2, \"flat\": 1},"
                          " \"refused\": {\"LOGPROB\": 4, \"EXPIRED\": 5},"
                          " \"money\": {\"escrow\": 12345678, \"slashed\": 1000000},"
                          " \"staleness\": [1, 2, 0]}",
                          0, NULL);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    screen_clear(&f->s);
    fclose(f->to);
    free(f->text);
    json_decref(f->status);
    return 0;
}

static void update(struct fixture *f, const char *note)
{
    screen_update(&f->s, f->status, note, f->now_ms);
    fflush(f->to);
}

/* What was written since the last call. */
static const char *fresh(struct fixture *f)
{
    static char copy[1u << 16];

    snprintf(copy, sizeof(copy), "%s", f->text + f->seen);
    f->seen = f->len;
    return copy;
}

static void add_version(struct fixture *f, int64_t version, double reward)
{
    json_array_append_new(json_object_get(f->status, "recent"),
                          json_pack("{s:I, s:f, s:f, s:I, s:I}", "version", (json_int_t)version,
                                    "reward", reward, "loss", 0.25, "tokens", (json_int_t)77,
                                    "paid", (json_int_t)9));
    json_object_set_new(f->status, "version", json_integer((json_int_t)version));
}

static void add_node(struct fixture *f, const char *name, const char *role, bool is_barred)
{
    json_array_append_new(json_object_get(f->status, "nodes"),
                          json_pack("{s:s, s:s, s:b, s:b, s:I, s:{s:i}}", "node", name, "role",
                                    role, "barred", is_barred, "alive", !is_barred, "tokens",
                                    (json_int_t)500, "refused", "LOGPROB", 2));
}

static void set_why(struct fixture *f, const char *why)
{
    json_object_set_new(f->status, "why", json_string(why));
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* ---- lines ------------------------------------------------------------------------------- */

static void each_version_is_one_line_once(void **state)
{
    struct fixture *f = *state;

    add_version(f, 1, 0.5);
    add_version(f, 2, 0.625);
    f->now_ms += 1500;
    update(f, NULL);
    assert_string_equal(f->text,
                        "version 1/60 reward 0.500 loss 0.2500 tokens 77 paid 9 ucr t 1.5 s\n"
                        "version 2/60 reward 0.625 loss 0.2500 tokens 77 paid 9 ucr t 1.5 s\n");

    update(f, NULL);
    add_version(f, 3, 0.5);
    update(f, NULL);
    assert_int_equal(count(f->text, "\n"), 3);
}

static void each_barred_node_is_told_once(void **state)
{
    struct fixture *f = *state;

    add_node(f, "aaaaaaaabbbb", "inference", true);
    update(f, NULL);
    update(f, NULL);
    add_node(f, "ccccccccdddd", "inference", false);
    add_node(f, "eeeeeeeeffff", "verifier", true);
    update(f, NULL);
    update(f, NULL);

    assert_int_equal(count(f->text, "barred "), 2);
    assert_contains(f->text, "barred aaaaaaaa (inference)");
    assert_contains(f->text, "barred eeeeeeee (verifier)");
}

static void a_reason_that_lasts_is_told_once(void **state)
{
    struct fixture *f = *state;

    update(f, NULL);
    f->now_ms += 4999;
    update(f, NULL);
    assert_int_equal(f->len, 0);

    f->now_ms += 1;
    update(f, NULL);
    f->now_ms += 60000;
    update(f, NULL);
    assert_string_equal(f->text, "waits: the trainer makes version 1\n");
}

static void a_reason_whose_numbers_run_is_the_same(void **state)
{
    struct fixture *f = *state;

    set_why(f, "unit 7 is leased, its lease ends in 9000 ms");
    update(f, NULL);
    f->now_ms += 5000;
    set_why(f, "unit 7 is leased, its lease ends in 400 ms");
    update(f, NULL);

    assert_contains(f->text, "waits: unit 7 is leased");
}

static void a_new_version_begins_the_wait_anew(void **state)
{
    struct fixture *f = *state;

    update(f, NULL);
    f->now_ms += 4000;
    add_version(f, 1, 0.5);
    update(f, NULL);
    f->now_ms += 4000;
    update(f, NULL);

    assert_int_equal(count(f->text, "waits:"), 0);
}

static void a_note_is_told_when_it_changes(void **state)
{
    struct fixture *f = *state;

    update(f, "trainer ended 5 times");
    update(f, "trainer ended 5 times");
    update(f, "trainer ended 6 times");
    update(f, NULL);
    update(f, "trainer ended 6 times");

    assert_string_equal(f->text, "trainer ended 5 times\ntrainer ended 6 times\n"
                                 "trainer ended 6 times\n");
}

static void control_characters_of_others_are_not_passed_on(void **state)
{
    struct fixture *f = *state;

    update(f, "\x1b[2Jgone\a");

    assert_string_equal(f->text, "?[2Jgone?\n");
}

static void without_an_answer_yet_nothing_is_told(void **state)
{
    struct fixture *f = *state;

    screen_update(&f->s, NULL, NULL, f->now_ms + 60000);
    fflush(f->to);

    assert_int_equal(f->len, 0);
}

/* ---- the picture ------------------------------------------------------------------------- */

/* A terminal that knows what the picture uses: up, home, clear, to the end of line and screen. */
struct terminal {
    unsigned rows, cols, row, col, scrolled;
    char cell[ROWS_MAX][COLS_MAX + 1];
};

static void terminal_escape(struct terminal *t, unsigned n, char code)
{
    switch (code) {
    case 'A': t->row -= n < t->row ? n : t->row; break;
    case 'H': t->row = t->col = 0; break;
    case 'K': memset(t->cell[t->row] + t->col, ' ', t->cols - t->col); break;
    case 'J':
        for (unsigned r = n == 2 ? 0 : t->row; r < t->rows; r++)
            memset(t->cell[r], ' ', t->cols);
        break;
    default: assert_int_equal(code, 'm'); break;
    }
}

static void terminal_put(struct terminal *t, char c)
{
    if (c == '\r') {
        t->col = 0;
    } else if (c == '\n') {
        t->col = 0;
        if (++t->row == t->rows) {
            memmove(t->cell[0], t->cell[1], (t->rows - 1) * sizeof(t->cell[0]));
            memset(t->cell[--t->row], ' ', t->cols);
            t->scrolled++;
        }
    } else if (((unsigned char)c & 0xc0) != 0x80) { /* what continues a character has no cell */
        assert_true(t->col + 1 < t->cols);          /* the last column stays free */
        t->cell[t->row][t->col++] = c;
    }
}

static void terminal_show(struct terminal *t, const char *text)
{
    while (*text) {
        if (*text != '\x1b') {
            terminal_put(t, *text++);
            continue;
        }
        assert_int_equal(text[1], '[');
        char *end;
        unsigned long n = strtoul(text + 2, &end, 10);
        terminal_escape(t, (unsigned)n, *end);
        text = end + 1;
    }
}

static void terminal_init(struct terminal *t, unsigned rows, unsigned cols)
{
    memset(t, 0, sizeof(*t));
    t->rows = rows;
    t->cols = cols;
    for (unsigned r = 0; r < rows; r++)
        memset(t->cell[r], ' ', cols);
}

static bool terminal_has(const struct terminal *t, const char *part)
{
    for (unsigned r = 0; r < t->rows; r++)
        if (strstr(t->cell[r], part))
            return true;
    return false;
}

/* Everything on a terminal of rows x cols, the picture drawn twice: the second time over the
 * first, which must not move. */
static void show(struct fixture *f, struct terminal *t, unsigned rows, unsigned cols)
{
    unsigned top;

    f->s.is_terminal = true;
    f->s.rows = rows;
    f->s.cols = cols;
    f->s.lines = 0;
    terminal_init(t, rows, cols);
    (void)fresh(f);
    update(f, NULL);
    terminal_show(t, fresh(f));
    top = t->row;
    update(f, NULL);
    terminal_show(t, fresh(f));
    assert_int_equal(t->row, top);
    assert_int_equal(t->scrolled, 0);
}

static void a_network(struct fixture *f)
{
    static const char *const role[] = {"initiator", "relay",     "inference",
                                       "verifier",  "inference", "trainer",
                                       "inference", "verifier",  "inference"};

    for (unsigned i = 0; i < sizeof(role) / sizeof(role[0]); i++) {
        char name[16];
        snprintf(name, sizeof(name), "node%04u", i);
        add_node(f, name, role[i], i == 8);
    }
    for (int64_t v = 1; v <= 20; v++)
        add_version(f, v, 0.04 * (double)v);
}

static void all_of_a_default_network_fits_80_by_24(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    show(f, &t, 24, 80);

    assert_contains(t.cell[0], "muster  small  training, 0 s");
    assert_contains(t.cell[1], "version 20 of 60 ########................");
    assert_contains(t.cell[1], "staleness 1");
    assert_contains(t.cell[2], "3 leased, 2 being checked; 4 refused, 5 late, 1 flat");
    assert_contains(t.cell[3], "escrow 12.3M");
    assert_contains(t.cell[3], "slashed 1.00M");
    assert_true(terminal_has(&t, "versions 1 to 20; reward 0.800, at best 0.800"));
    for (unsigned i = 1; i <= 8; i++) {
        char name[16];
        snprintf(name, sizeof(name), "node%04u", i);
        assert_true(terminal_has(&t, name));
    }
    assert_true(terminal_has(&t, "  BARRED"));
    assert_false(terminal_has(&t, "node0000")); /* the initiator has nothing to show */
    assert_true(terminal_has(&t, "the trainer makes version 1"));
}

/* Whatever the window, the picture fits: terminal_put checks columns, show() rows. The reason is
 * left out last. */
static void the_picture_keeps_to_every_window(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    for (int utf8 = 0; utf8 < 2; utf8++) {
        f->s.is_utf8 = utf8;
        for (unsigned rows = 2; rows <= ROWS_MAX; rows++) {
            show(f, &t, rows, 80);
            assert_true(rows < 6 || terminal_has(&t, "the trainer makes version 1"));
        }
        for (unsigned cols = 4; cols <= COLS_MAX; cols += 3)
            show(f, &t, 24, cols);
    }
}

/* A character of three bytes takes as much room as one of one. */
static void blocks_reach_as_far_as_letters(void **state)
{
    struct fixture *f = *state;
    struct terminal letters, blocks;

    a_network(f);
    show(f, &letters, 24, 60); /* the bar of progress, and the curve beyond it */
    f->s.is_utf8 = true;
    show(f, &blocks, 24, 60);

    for (unsigned r = 0; r < 12; r++)
        for (unsigned c = 9; c < 60; c++)
            if (r < 5 || letters.cell[r][c] == '#') /* full there is not empty here */
                assert_int_equal(letters.cell[r][c] == ' ', blocks.cell[r][c] == ' ');
}

/* In a high window the curve grows to ten rows, and no further. */
static void a_high_window_does_not_stretch_the_curve(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    show(f, &t, 60, 80);

    assert_contains(t.cell[5 + 10], "versions 1 to 20");
}

static void nodes_that_do_not_fit_are_counted_and_barred_ones_kept(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    show(f, &t, 18, 80);

    assert_true(terminal_has(&t, "node0008")); /* the barred one */
    assert_true(terminal_has(&t, "more"));
    assert_false(terminal_has(&t, "node0001")); /* the relay is the last */
}

static void a_shorter_picture_leaves_nothing_of_a_longer_one(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    show(f, &t, 40, 80);
    assert_true(terminal_has(&t, "node0003"));
    json_object_set_new(f->status, "nodes", json_array());
    set_why(f, "over");
    update(f, NULL);
    terminal_show(&t, fresh(f));

    assert_false(terminal_has(&t, "node0003"));
    assert_false(terminal_has(&t, "the trainer makes"));
    assert_true(terminal_has(&t, "  over"));
}

static void the_bars_rise_with_the_reward(void **state)
{
    struct fixture *f = *state;
    struct terminal t;
    unsigned axis = 0, filled[2] = {0, 0};

    a_network(f);
    show(f, &t, 24, 80);
    while (!strstr(t.cell[axis], "versions 1 to"))
        axis++;
    for (unsigned r = 5; r < axis; r++) {
        filled[0] += t.cell[r][9] != ' ';      /* version 1: 0.04 */
        filled[1] += t.cell[r][9 + 19] != ' '; /* version 20: 0.8, of 1 */
    }

    assert_int_equal(filled[0], 1);
    assert_true(filled[1] * 10 >= (axis - 5) * 8);
    assert_true(t.cell[axis - 1][9 + 20] == ' '); /* there is no version 21 */
}

static void a_screen_without_colours_has_none(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    a_network(f);
    show(f, &t, 24, 80);
    assert_int_equal(count(f->text, "\x1b[1m") + count(f->text, "\x1b[31m"), 0);

    f->s.has_colour = true;
    show(f, &t, 24, 80);
    assert_true(count(f->text, "\x1b[1mmuster") > 0);
    assert_true(terminal_has(&t, "  BARRED"));
}

static void a_note_takes_the_reason_s_place(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    show(f, &t, 24, 80);
    update(f, "trainer ended 5 times");
    terminal_show(&t, fresh(f));

    assert_true(terminal_has(&t, "trainer ended 5 times"));
    assert_false(terminal_has(&t, "the trainer makes"));
}

static void before_the_first_answer_there_is_a_picture_too(void **state)
{
    struct fixture *f = *state;
    struct terminal t;

    json_decref(f->status);
    f->status = NULL;
    show(f, &t, 24, 80);

    assert_true(terminal_has(&t, "no version was trained yet"));
}

/* ---- the curve --------------------------------------------------------------------------- */

static void a_column_is_one_version_while_there_is_room(void **state)
{
    struct fixture *f = *state;

    for (int64_t v = 1; v <= 5; v++)
        add_version(f, v, (double)v);
    update(f, NULL);

    for (unsigned x = 0; x < 5; x++)
        assert_true(screen_column(&f->s, x, 50) == x + 1);
    assert_true(isnan(screen_column(&f->s, 5, 50)));
}

/* Sums of small integers are exact. */
static void a_column_is_a_mean_where_there_is_not(void **state)
{
    struct fixture *f = *state;

    for (int64_t v = 1; v <= 100; v++)
        add_version(f, v, (double)v);
    update(f, NULL);

    assert_true(screen_column(&f->s, 0, 50) == 1.5);
    assert_true(screen_column(&f->s, 49, 50) == 99.5);
}

/* 5000 versions need bins of 16: columns of one bin each are means of 16 versions in a row. */
static void a_run_of_any_length_has_its_whole_curve(void **state)
{
    struct fixture *f = *state;

    f->s.is_terminal = true; /* no lines */
    for (int64_t v = 1; v <= 5000; v++)
        add_version(f, v, (double)v);
    update(f, NULL);

    assert_int_equal(f->s.stride, 16);
    assert_true(screen_column(&f->s, 0, 313) == 8.5);
    assert_true(screen_column(&f->s, 312, 313) == 4996.5); /* 4993 to 5000 */
}

static void a_reward_that_is_no_number_is_left_out(void **state)
{
    struct fixture *f = *state;

    add_version(f, 1, 0.5);
    json_object_set_new(json_array_get(json_object_get(f->status, "recent"), 0), "reward",
                        json_null());
    update(f, NULL);

    assert_true(isnan(screen_column(&f->s, 0, 50)));
    assert_true(isnan(f->s.reward));
}

static void numbers_are_short(void **state)
{
    static const struct {
        int64_t n;
        const char *text;
    } row[] = {
        {0, "0"},           {9999, "9999"},       {10000, "10.0k"},  {99949, "99.9k"},
        {99951, "100k"},    {999499, "999k"},     {999500, "1.00M"}, {-12345, "-12.3k"},
        {4560000, "4.56M"}, {INT64_MAX, "9.22E"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        char text[16];
        screen_number(text, row[i].n);
        assert_string_equal(text, row[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_version_is_one_line_once, setup, teardown),
        cmocka_unit_test_setup_teardown(each_barred_node_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reason_that_lasts_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reason_whose_numbers_run_is_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_new_version_begins_the_wait_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_note_is_told_when_it_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(control_characters_of_others_are_not_passed_on, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_an_answer_yet_nothing_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(all_of_a_default_network_fits_80_by_24, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_picture_keeps_to_every_window, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_reach_as_far_as_letters, setup, teardown),
        cmocka_unit_test_setup_teardown(a_high_window_does_not_stretch_the_curve, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nodes_that_do_not_fit_are_counted_and_barred_ones_kept,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_shorter_picture_leaves_nothing_of_a_longer_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_bars_rise_with_the_reward, setup, teardown),
        cmocka_unit_test_setup_teardown(a_screen_without_colours_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(a_note_takes_the_reason_s_place, setup, teardown),
        cmocka_unit_test_setup_teardown(before_the_first_answer_there_is_a_picture_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_column_is_one_version_while_there_is_room, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_column_is_a_mean_where_there_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_of_any_length_has_its_whole_curve, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_reward_that_is_no_number_is_left_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(numbers_are_short, setup, teardown),
    };
    return cmocka_run_group_tests_name("cli/up_screen", tests, NULL, NULL);
}
