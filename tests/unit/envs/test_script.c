/*
 * envs/script.h: what a script can do, what it cannot, and that it always does the same
 */
#include "envs/script.h"

#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#define MIB ((uint64_t)1 << 20)

static struct script_source source_of(const char *lua)
{
    return (struct script_source){
        .lua = bytes_str(lua), .instructions = 5000000, .memory_bytes = 128 * MIB};
}

static struct script *load(const struct script_source *src)
{
    struct script *s;
    struct err e = {0};

    assert_ok(script_open(&s, src, &e), &e);
    assert_ok(script_load(s, &e), &e);
    return s;
}

static void assert_does_not_load(const char *lua, enum status want, const char *part)
{
    struct script_source src = source_of(lua);
    struct script *s;
    struct err e = {0};

    assert_ok(script_open(&s, &src, &e), &e);
    assert_status(script_load(s, &e), want, &e);
    assert_contains(e.text, part);
    script_close(&s);
}

static void run(struct script *s, enum script_op op, struct env_problem p, const char *answer,
                struct script_result *r)
{
    struct env_message m = {ENV_MODEL, bytes_str(answer ? answer : "")};
    struct script_call call = {op, p, &m, 1};

    script_run(s, &call, r);
}

/* Evaluates a Lua expression in a script's prompt; the text is to be freed. */
static char *evaluate(const char *expression, struct script_result *r)
{
    char lua[2048];
    struct script_source src;
    struct script *s;
    char *text;

    snprintf(lua, sizeof(lua),
             "return {prompt = function(problem) return tostring(%s) end,"
             " score = function() return 0 end}",
             expression);
    src = source_of(lua);
    s = load(&src);
    run(s, SCRIPT_PROMPT, (struct env_problem){0, 7, ENV_TRAIN}, NULL, r);
    text =
        strndup((const char *)(r->text.data ? r->text.data : (const uint8_t *)""), r->text.len);
    script_close(&s);
    return text;
}

static void assert_value(const char *expression, const char *want)
{
    struct script_result r;
    char *got = evaluate(expression, &r);

    if (r.end != SCRIPT_DONE || strcmp(got, want) != 0)
        fail_msg("%s gives '%s' (%s), want '%s'", expression, got, r.why, want);
    free(got);
}

static void assert_fails(const char *expression, enum script_end want, const char *part)
{
    struct script_result r;
    char *got = evaluate(expression, &r);

    if (r.end != want || !strstr(r.why, part))
        fail_msg("%s ends %d '%s' (gives '%s'), want %d '%s'", expression, r.end, r.why, got,
                 want, part);
    free(got);
}

/* ---- loading ------------------------------------------------------------------------------- */

static void a_script_must_return_its_functions(void **state)
{
    (void)state;

    assert_does_not_load("x =", ERR_INVALID, "env.lua:1:");
    assert_does_not_load("return 1", ERR_INVALID, "table of functions");
    assert_does_not_load("return {}", ERR_INVALID, "'prompt'");
    assert_does_not_load("return {prompt = print, score = 1}", ERR_INVALID, "'prompt'");
    assert_does_not_load("return {prompt = type, score = 1}", ERR_INVALID, "'score'");
    assert_does_not_load("return {prompt = type, score = type, step = 1}", ERR_INVALID,
                         "'step'");
    assert_does_not_load("return {prompt = type, score = type, load = function() end}",
                         ERR_INVALID, "load must return");
    assert_does_not_load("error('on purpose')", ERR_INVALID, "env.lua:1: on purpose");
    assert_does_not_load("error({})", ERR_INVALID, "error object is a table");
    assert_does_not_load("while true do end", ERR_LIMIT, "instruction limit");
    assert_does_not_load("\x1bLua", ERR_INVALID, "binary");
}

static void load_says_how_many_tasks_there_are(void **state)
{
    (void)state;
    struct script_source src = source_of("return {prompt = tostring, score = type,"
                                         " load = function(d) return #d * 2 end}");
    struct script *s;

    src.data = BYTES_LIT("1\n2\n\n3");
    s = load(&src);

    assert_int_equal(script_n_tasks(s), 6);
    assert_true(script_has(s, SCRIPT_SCORE));
    assert_false(script_has(s, SCRIPT_DEMO));
    script_close(&s);
}

static void rows_of_a_dataset_are_the_tasks_by_default(void **state)
{
    (void)state;
    struct script_source src =
        source_of("return {prompt = function(p) return p.row.q end, score = type}");
    struct script_result r;
    struct script *s;

    src.data = BYTES_LIT("{\"q\": \"one\"}\n{\"q\": \"two\"}\n{\"q\": \"three\"}\n");
    s = load(&src);

    assert_int_equal(script_n_tasks(s), 2); /* one row in eight, at least one, is held out */
    run(s, SCRIPT_PROMPT, (struct env_problem){1, 0, ENV_TRAIN}, NULL, &r);
    assert_true(bytes_equal(r.text, BYTES_LIT("two")));
    run(s, SCRIPT_PROMPT, (struct env_problem){1, 0, ENV_HELDOUT}, NULL, &r);
    assert_true(bytes_equal(r.text, BYTES_LIT("three")));
    script_close(&s);
}

static void a_bad_row_is_an_error_of_the_call(void **state)
{
    (void)state;
    struct script_source src =
        source_of("return {prompt = function(p) return p.row.q end, score = type}");
    struct script_result r;
    struct script *s;

    src.data = BYTES_LIT("{\"q\": \"one\"}\n{\"q\": \n{\"q\": 1}\n");
    s = load(&src);

    run(s, SCRIPT_PROMPT, (struct env_problem){1, 0, ENV_TRAIN}, NULL, &r);
    assert_int_equal(r.end, SCRIPT_ERROR);
    assert_contains(r.why, "row 2");
    script_close(&s);
}

static void parameters_are_a_table(void **state)
{
    (void)state;
    struct task_param param[] = {{"n", TASK_PARAM_INT, 3, 0, NULL},
                                 {"x", TASK_PARAM_REAL, 0, 0.5, NULL},
                                 {"on", TASK_PARAM_BOOL, 1, 0, NULL},
                                 {"w", TASK_PARAM_TEXT, 0, 0, (char *)"word"}};
    struct script_source src = source_of(
        "return {prompt = function() return params.n .. params.x .. tostring(params.on) .."
        " params.w end, score = type}");
    struct script_result r;
    struct script *s;

    src.param = param;
    src.n_params = 4;
    s = load(&src);
    run(s, SCRIPT_PROMPT, (struct env_problem){0}, NULL, &r);

    assert_true(bytes_equal(r.text, BYTES_LIT("30.5trueword")));
    script_close(&s);
}

/* ---- what calls return --------------------------------------------------------------------- */

static void score_returns_reward_and_metrics(void **state)
{
    (void)state;
    struct script_source src =
        source_of("return {prompt = type, score = function(p, m) return #m[1].text / 4,"
                  " {zeta = 1, alpha = 2.5, role = m[1].role == 'model' and 1 or 0} end}");
    struct script_result r;
    struct script *s = load(&src);

    run(s, SCRIPT_SCORE, (struct env_problem){0}, "abc", &r);

    assert_int_equal(r.end, SCRIPT_DONE);
    assert_true(r.reward == 0.75);
    assert_int_equal(r.n_metrics, 3);
    assert_string_equal(r.metric[0].name, "alpha");
    assert_true(r.metric[0].value == 2.5);
    assert_string_equal(r.metric[1].name, "role");
    assert_true(r.metric[1].value == 1);
    assert_string_equal(r.metric[2].name, "zeta");
    script_close(&s);
}

static void wrong_results_are_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {"'1'",
                                      "nil",
                                      "1, 2",
                                      "1, {2}",
                                      "1, {a = 'x'}",
                                      "1, {a = 0/0}",
                                      "1, {[''] = 1}",
                                      "1, {['a\\n'] = 1}",
                                      "1, {[('x'):rep(32)] = 1}"};
    struct script_result r;
    char lua[256];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(lua, sizeof(lua), "return {prompt = type, score = function() return %s end}",
                 bad[i]);
        struct script_source src = source_of(lua);
        struct script *s = load(&src);

        run(s, SCRIPT_SCORE, (struct env_problem){0}, "", &r);
        if (r.end != SCRIPT_ERROR)
            fail_msg("score returning %s ends %d", bad[i], r.end);
        assert_int_equal(r.n_metrics, 0);
        script_close(&s);
    }
    assert_fails("(' '):rep(300000)", SCRIPT_ERROR, "more than");
}

static void step_answers_or_ends(void **state)
{
    (void)state;
    struct script_source src =
        source_of("return {prompt = type, score = type, step = function(p, m)"
                  " if m[#m].text == 'stop' then return nil end return 'go on' end}");
    struct script_result r;
    struct script *s = load(&src);

    run(s, SCRIPT_STEP, (struct env_problem){0}, "hm", &r);
    assert_false(r.is_done);
    assert_true(bytes_equal(r.text, BYTES_LIT("go on")));
    run(s, SCRIPT_STEP, (struct env_problem){0}, "stop", &r);
    assert_true(r.is_done);
    run(s, SCRIPT_DEMO, (struct env_problem){0}, NULL, &r);
    assert_int_equal(r.end, SCRIPT_ABSENT);
    script_close(&s);
}

static void nothing_is_carried_from_one_call_to_the_next(void **state)
{
    (void)state;
    struct script_source src = source_of(
        "local n = 0\n"
        "return {prompt = function() n = n + 1; leak = (leak or 0) + 1;"
        " string.mark = (string.mark or '') .. 'x'; getmetatable('').mark = 1;"
        " return n .. ' ' .. leak .. ' ' .. string.mark .. ' ' .. math.random(1000000) end,"
        " score = type}");
    struct script_result r;
    struct script *s = load(&src);
    char first[64] = {0};

    run(s, SCRIPT_PROMPT, (struct env_problem){0, 5, ENV_TRAIN}, NULL, &r);
    memcpy(first, r.text.data, r.text.len);
    assert_memory_equal(first, "1 1 x ", 6);
    for (int i = 0; i < 3; i++) {
        run(s, SCRIPT_PROMPT, (struct env_problem){0, 5, ENV_TRAIN}, NULL, &r);
        assert_true(bytes_equal(r.text, bytes_str(first)));
    }
    script_close(&s);
}

/* ---- limits -------------------------------------------------------------------------------- */

static void endless_loops_hit_the_instruction_limit(void **state)
{
    (void)state;

    assert_fails("(function() while true do end end)()", SCRIPT_LIMIT, "instruction limit");
    assert_fails("(function() while true do pcall(function() while true do end end) end end)()",
                 SCRIPT_LIMIT, "instruction limit");
    assert_fails("(function() for i = 1, 1e9 do local t = {} end end)()", SCRIPT_LIMIT,
                 "limit");
    assert_fails("(function() local t = {} for i = 1, 1000 do t[i] = i end"
                 " while true do next(t) end end)()",
                 SCRIPT_LIMIT, "instruction limit");
    assert_fails("(function() local f; f = setmetatable({}, {__index = function(t, k)"
                 " while true do end end}); return f.x end)()",
                 SCRIPT_LIMIT, "instruction limit");
}

static void a_caught_limit_is_still_the_limit(void **state)
{
    (void)state;

    assert_fails("(function() pcall(function() while true do end end) return 1 end)()",
                 SCRIPT_LIMIT, "instruction limit");
    assert_fails("(function() pcall(string.rep, 'x', 1e9) return 1 end)()", SCRIPT_LIMIT,
                 "memory limit");
    assert_fails("(function() xpcall(function() while true do end end,"
                 " function() while true do end end) return 1 end)()",
                 SCRIPT_LIMIT, "instruction limit");
}

/* A loop that catches the error again and again ends at its first instruction outside pcall. */
static void a_limit_ends_the_call_at_once(void **state)
{
    (void)state;
    struct script_result r;
    char *text = evaluate("(function() local function f() while true do end end"
                          " while true do pcall(f) end end)()",
                          &r);

    assert_int_equal(r.end, SCRIPT_LIMIT);
    assert_true(r.usage.instructions <= 5000000 + ENV_COUNT_STEP);
    free(text);
}

static void endless_allocation_hits_the_memory_limit(void **state)
{
    (void)state;

    assert_fails("('x'):rep(1 << 30)", SCRIPT_LIMIT, "memory limit");
    assert_fails("(function() local s = 'x' while true do s = s .. s end end)()", SCRIPT_LIMIT,
                 "memory limit");
    assert_fails("(function() local t = {} for i = 1, 1e8 do t[i] = {} end end)()",
                 SCRIPT_LIMIT, "limit");
    assert_fails(
        "(function() local t = {} while true do t[#t + 1] = ('x'):rep(1 << 20) end end)()",
        SCRIPT_LIMIT, "memory limit");
}

static void deep_recursion_is_an_error(void **state)
{
    (void)state;

    assert_fails("(function() local function f() return 1 + f() end return f() end)()",
                 SCRIPT_ERROR, "stack overflow");
    assert_fails("(function() local function f(s) return (s:gsub('.', f)) end"
                 " return f('x') end)()",
                 SCRIPT_ERROR, "overflow");
    assert_fails("json.decode(('['):rep(100) .. (']'):rep(100))", SCRIPT_ERROR, "deep");
}

static void limits_are_reached_at_the_same_place_every_time(void **state)
{
    (void)state;
    struct script_source src = source_of(
        "return {prompt = type, score = function(p) local t, n = {}, 0\n"
        "for i = 1, 2000 do t['k' .. i % 97] = i; t['k' .. (i * 7) % 89] = nil; t[i] = i end\n"
        "for k in pairs(t) do n = n + 1 end return n + #t end}");
    struct script_result a, b;
    struct script *s;

    s = load(&src);
    run(s, SCRIPT_SCORE, (struct env_problem){0}, "", &a);
    script_close(&s);
    s = load(&src);
    run(s, SCRIPT_SCORE, (struct env_problem){0}, "", &b);
    script_close(&s);

    assert_int_equal(a.end, SCRIPT_DONE);
    assert_true(a.reward == b.reward);
    assert_int_equal(a.usage.instructions, b.usage.instructions);
    assert_int_equal(a.usage.memory_bytes, b.usage.memory_bytes);
    /* Recorded with Lua 5.4.4: on another machine it must be the same. */
    if (!strcmp(env_lua_release(), "Lua 5.4.4"))
        assert_int_equal(a.usage.memory_bytes, 0x420d0);
}

/* What `#` says of a table with holes depends on how its parts lie in memory, and with strings
 * among its keys that depends on the seed of the hashes: a state seeded by Lua itself gives
 * another text each time. */
static void lengths_of_tables_with_holes_are_the_same_in_every_process(void **state)
{
    (void)state;

    assert_value("(function() local out = {} for n = 1, 200 do local t = {} for i = 1, 40 do"
                 " t['k' .. math.random(60)] = i t['k' .. math.random(60)] = nil"
                 " t[math.random(12)] = i t[math.random(12)] = nil end out[n] = #t end"
                 " return table.concat(out) end)()",
                 "07878077008100758418341888711102381100702153869080047908124781002280101"
                 "08017033100840172070110127321211050212101918570621281282073116201007770"
                 "11208388528827088108411878001090311782821108101100033003880208630180277"
                 "012007");
}

/* ---- escapes ------------------------------------------------------------------------------- */

static void dangerous_libraries_are_not_there(void **state)
{
    (void)state;
    static const char *const absent[] = {
        "io",         "os",        "package",        "debug",         "coroutine",
        "require",    "load",      "loadstring",     "loadfile",      "dofile",
        "print",      "warn",      "collectgarbage", "string.dump",   "string.pack",
        "utf8.codes", "math.cosh", "math.frexp",     "table.foreach", "getfenv"};
    char expression[64];

    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        snprintf(expression, sizeof(expression), "%s == nil", absent[i]);
        assert_value(expression, "true");
    }
}

static void no_address_can_be_seen(void **state)
{
    (void)state;

    assert_value("{}", "table");
    assert_value("print == nil and tostring(pairs)", "function");
    assert_value("string.format('%s', {})", "table");
    assert_value("('%s %d'):format(type, 3)", "function 3");
    assert_value("string.format('%s', setmetatable({}, {__name = 'X'}))", "table");
    assert_value("setmetatable({}, {__tostring = function() return 'mine' end})", "mine");
    assert_value("dataset", "userdata");
    assert_fails("string.format('%p', {})", SCRIPT_ERROR, "address");
    assert_fails("string.format('%-10p', {})", SCRIPT_ERROR, "address");
    assert_value("string.format('100%%p')", "100%p");
}

static void the_string_metatable_gives_nothing_away(void **state)
{
    (void)state;

    assert_value("getmetatable('').__index == string", "true");
    assert_value("getmetatable('').__add", "nil");
    assert_fails("'10' + {}", SCRIPT_ERROR, "arithmetic");
    assert_value("getmetatable(dataset)", "false");
    assert_value("rawequal(_G, _G._G)", "true");
}

/* ---- order and numbers --------------------------------------------------------------------- */

static void pairs_is_in_order(void **state)
{
    (void)state;
    static const char in_order[] = "-1 1 2 2.5 10 '10' 'a' 'a.b' 'ab' 'z' ";
    static const char walk[] =
        "(function() local s, k = '', nil local t = {z = 1, a = 1, ['10'] = 1, [10] = 1,"
        " [-1] = 1, [2.5] = 1, 'x', 'y', ab = 1, ['a\\1b'] = 1}"
        " local function show(k) s = s .. (type(k) == 'string' and"
        " \"'\" .. k:gsub('\\1', '.') .. \"'\" or k) .. ' ' end %s return s end)()";
    char expression[1024];

    snprintf(expression, sizeof(expression), walk, "for k in pairs(t) do show(k) end");
    assert_value(expression, in_order);
    snprintf(expression, sizeof(expression), walk, "for k in next, t do show(k) end");
    assert_value(expression, in_order);
}

static void pairs_allows_removal_and_skips_what_is_gone(void **state)
{
    (void)state;

    assert_value("(function() local s, t = '', {a = 1, b = 2, c = 3, d = 4}"
                 " for k, v in pairs(t) do s = s .. k .. v t[k] = nil t.c = nil end"
                 " return s end)()",
                 "a1b2d4");
}

static void tables_with_other_keys_cannot_be_walked(void **state)
{
    (void)state;

    assert_fails("(function() for k in pairs({[{}] = 1}) do end end)()", SCRIPT_ERROR,
                 "table as key");
    assert_fails("next({[true] = 1})", SCRIPT_ERROR, "boolean as key");
    assert_value("select('#', next({}))", "1");
}

static void metamethods_of_iteration_work(void **state)
{
    (void)state;

    assert_value("(function() local t = setmetatable({}, {__pairs = function() return"
                 " function(_, k) if not k then return 1, 2 end end, nil, nil end})"
                 " local s = '' for k, v in pairs(t) do s = s .. k .. v end return s end)()",
                 "12");
    assert_value("(function() local t = setmetatable({}, {__index = function(t, i) if i < 4"
                 " then return i * i end end}) local s = '' for i, v in ipairs(t) do"
                 " s = s .. v end return s end)()",
                 "149");
}

static void sort_is_stable_and_total(void **state)
{
    (void)state;

    assert_value("(function() local t = {} for i = 1, 200 do t[i] = {i // 10 * 37 % 7, i} end"
                 " table.sort(t, function(a, b) return a[1] < b[1] end)"
                 " for i = 2, 200 do if t[i-1][1] > t[i][1] or (t[i-1][1] == t[i][1] and"
                 " t[i-1][2] > t[i][2]) then return i end end return 'stable' end)()",
                 "stable");
    assert_value("(function() local t = {3, 1, 2} table.sort(t) return table.concat(t) end)()",
                 "123");
    assert_value("(function() local t = {3, 1, 2} table.sort(t, function() return true end)"
                 " return #t end)()",
                 "3");
    assert_fails("table.sort({1, 'x'})", SCRIPT_ERROR, "compare");
}

static void random_numbers_depend_on_the_seed_alone(void **state)
{
    (void)state;
    struct script_source src = source_of(
        "return {prompt = function() return math.random(1 << 40) .. ' ' .. math.random() end,"
        " score = type}");
    struct script_result r;
    struct script *s = load(&src);
    char text[3][64] = {{0}};

    for (int i = 0; i < 3; i++) {
        run(s, SCRIPT_PROMPT, (struct env_problem){0, i == 2 ? 8 : 7, ENV_TRAIN}, NULL, &r);
        memcpy(text[i], r.text.data, r.text.len);
    }

    assert_string_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    assert_string_equal(text[0], "948992768558 0.085657865301281"); /* on every machine */
    script_close(&s);
}

static void random_has_luas_forms(void **state)
{
    (void)state;

    assert_value("(function() for i = 1, 1000 do local a, b, c = math.random(), math.random(3),"
                 " math.random(-2, 2) if a < 0 or a >= 1 or b < 1 or b > 3 or c < -2 or c > 2"
                 " then return false end end return math.type(math.random(0)) end)()",
                 "integer");
    assert_value("math.random(math.mininteger, math.maxinteger) ~= nil", "true");
    assert_fails("math.random(3, 1)", SCRIPT_ERROR, "empty");
    assert_fails("math.random(1, 2, 3)", SCRIPT_ERROR, "wrong number");
}

static void elementary_functions_are_ours(void **state)
{
    (void)state;

    assert_value("string.format('%a', math.exp(1))", "0x1.5bf0a8b145769p+1");
    assert_value("string.format('%a', 2 ^ 0.5)", "0x1.6a09e667f3bcdp+0");
    assert_value("(function(x) return x ^ 3 end)(7)", "343.0");
    assert_value("math.log(1024, 2)", "10.0");
    assert_value("math.log(1000, 10)", "3.0");
    assert_value("string.format('%.3f %.3f', math.atan(1), math.atan(-1, -1))", "0.785 -2.356");
    assert_value("0/0", "nan");
    assert_value("string.format('%g', 0/0)", "nan");
    assert_value("string.format('%g', -(0/0))", "nan");
}

static void json_is_decoded(void **state)
{
    (void)state;

    assert_value("(function() local v = json.decode('{\"a\": [1, 2.5, \"x\", true, null]}')"
                 " return #v.a .. v.a[1] .. v.a[2] .. v.a[3] .. tostring(v.a[4]) end)()",
                 "412.5xtrue");
    assert_value("json.decode('7')", "7");
    assert_fails("json.decode('{')", SCRIPT_ERROR, "json: column");
    assert_fails("json.decode('{\"a\":1,\"a\":2}')", SCRIPT_ERROR, "duplicate");
    assert_value("pcall(json.decode, '[')", "false");
}

static void one_text_in_eight_is_held_out(void **state)
{
    (void)state;

    assert_value("(function() local n = 0 for i = 1, 4000 do"
                 " if split('text ' .. i) == 'heldout' then n = n + 1 end end"
                 /* 500 expected, standard deviation 21; it is always the same number */
                 " return n > 400 and n < 600 end)()",
                 "true");
}

int main(void)
{
    script_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_must_return_its_functions),
        cmocka_unit_test(load_says_how_many_tasks_there_are),
        cmocka_unit_test(rows_of_a_dataset_are_the_tasks_by_default),
        cmocka_unit_test(a_bad_row_is_an_error_of_the_call),
        cmocka_unit_test(parameters_are_a_table),
        cmocka_unit_test(score_returns_reward_and_metrics),
        cmocka_unit_test(wrong_results_are_errors),
        cmocka_unit_test(step_answers_or_ends),
        cmocka_unit_test(nothing_is_carried_from_one_call_to_the_next),
        cmocka_unit_test(endless_loops_hit_the_instruction_limit),
        cmocka_unit_test(a_caught_limit_is_still_the_limit),
        cmocka_unit_test(a_limit_ends_the_call_at_once),
        cmocka_unit_test(endless_allocation_hits_the_memory_limit),
        cmocka_unit_test(deep_recursion_is_an_error),
        cmocka_unit_test(limits_are_reached_at_the_same_place_every_time),
        cmocka_unit_test(lengths_of_tables_with_holes_are_the_same_in_every_process),
        cmocka_unit_test(dangerous_libraries_are_not_there),
        cmocka_unit_test(no_address_can_be_seen),
        cmocka_unit_test(the_string_metatable_gives_nothing_away),
        cmocka_unit_test(pairs_is_in_order),
        cmocka_unit_test(pairs_allows_removal_and_skips_what_is_gone),
        cmocka_unit_test(tables_with_other_keys_cannot_be_walked),
        cmocka_unit_test(metamethods_of_iteration_work),
        cmocka_unit_test(sort_is_stable_and_total),
        cmocka_unit_test(random_numbers_depend_on_the_seed_alone),
        cmocka_unit_test(random_has_luas_forms),
        cmocka_unit_test(elementary_functions_are_ours),
        cmocka_unit_test(json_is_decoded),
        cmocka_unit_test(one_text_in_eight_is_held_out),
    };

    return cmocka_run_group_tests_name("envs/script", tests, NULL, NULL);
}
