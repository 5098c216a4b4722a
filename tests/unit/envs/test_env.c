/*
 * envs/env.h: the host and its worker, with real processes. This program is its own worker.
 */
#include "envs/env.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/test.h"

#define HEAD "name: x\nenvironment: {wall_ms: 60000, instructions: 3000000}\n"

static const struct env_problem first = {0, 7, ENV_TRAIN};

static enum status open_yaml(struct env **env, const char *yaml, const char *lua, struct err *e)
{
    struct bundle b = {0};
    struct task t;
    enum status st;

    assert_ok(task_parse(&t, bytes_str(yaml), "task.yaml", e), e);
    b.file[BUNDLE_TASK] = bytes_str(yaml);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    st = env_open(env, &t, &b, NULL, e);
    task_clear(&t);
    return st;
}

static struct env *open_env(const char *lua)
{
    struct env *env;
    struct err e = {0};

    assert_ok(open_yaml(&env, HEAD, lua, &e), &e);
    return env;
}

static struct env_score score_of(struct env *env, const char *answer)
{
    struct env_score s;
    struct err e = {0};

    assert_ok(env_score_text(env, &first, bytes_str(answer), &s, &e), &e);
    return s;
}

/* The id of the one worker that this process has, from /proc. */
static pid_t worker_pid(void)
{
    char path[64], text[512];
    DIR *d = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;

    assert_non_null(d);
    while ((entry = readdir(d))) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10), parent = 0;
        int fd;
        ssize_t n;

        if (*end)
            continue;
        snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
        fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        text[n > 0 ? n : 0] = '\0';
        if (strrchr(text, ')') && sscanf(strrchr(text, ')') + 1, " %*c %ld", &parent) == 1 &&
            parent == (long)getpid())
            found = (pid_t)pid;
    }
    closedir(d);
    return found;
}

static const char echo[] =
    "return {load = function() return 5 end,"
    " prompt = function(p) return 'p' .. p.index .. ' ' .. p.seed .. ' ' .. p.split end,"
    " demo = function(p) return 'right' end,"
    " score = function(p, m) return m[#m].text == 'right' and 1 or 0.5, {n = #m} end}";

static void a_problem_is_posed_shown_and_scored(void **state)
{
    (void)state;
    struct env *env = open_env(echo);
    struct env_problem p = {4, 9, ENV_HELDOUT};
    struct env_score s;
    struct buf text;

    buf_init(&text, 4096);
    assert_int_equal(env_n_tasks(env), 5);
    assert_true(env_is_sandboxed(env));
    assert_true(env_has_demo(env));
    assert_false(env_has_step(env));
    assert_ok(env_prompt(env, &p, &text, NULL), NULL);
    assert_string_equal(buf_cstr(&text), "p5 9 heldout");
    buf_reset(&text);
    assert_ok(env_demo(env, &p, &text, NULL), NULL);
    assert_string_equal(buf_cstr(&text), "right");

    s = score_of(env, "right");
    assert_true(s.reward == 1.0f);
    assert_int_equal(s.outcome, ENV_SCORED);
    assert_int_equal(s.n_metrics, 1);
    assert_string_equal(s.metric[0].name, "n");
    assert_true(score_of(env, "wrong").reward == 0.5f);
    buf_clear(&text);
    env_close(&env);
}

static void an_episode_of_several_turns_runs(void **state)
{
    (void)state;
    struct env *env = open_env(
        "return {prompt = function() return 'guess' end,"
        " step = function(p, m) if m[#m].text ~= '7' then return 'no' end end,"
        " score = function(p, m) local w = 0 for _, x in ipairs(m) do if x.role == 'world' then"
        " w = w + 1 end end return 1 / (1 + w) end}");
    struct env_message m[3] = {
        {ENV_MODEL, BYTES_LIT("3")}, {ENV_WORLD, BYTES_LIT("no")}, {ENV_MODEL, BYTES_LIT("7")}};
    struct env_score s;
    struct buf text;
    bool is_done;

    buf_init(&text, 4096);
    assert_ok(env_step(env, &first, m, 1, &is_done, &text, NULL), NULL);
    assert_false(is_done);
    assert_string_equal(buf_cstr(&text), "no");
    assert_ok(env_step(env, &first, m, 3, &is_done, &text, NULL), NULL);
    assert_true(is_done);
    assert_ok(env_score(env, &first, m, 3, &s, NULL), NULL);

    assert_true(s.reward == 0.5f);
    buf_clear(&text);
    env_close(&env);
}

static void a_failing_script_scores_the_least_reward(void **state)
{
    (void)state;
    struct env *env =
        open_env("return {prompt = type, score = function(p, m) local t = m[1].text"
                 " if t == 'error' then error('on purpose') end"
                 " if t == 'loop' then while true do end end"
                 " if t == 'memory' then return #('x'):rep(1 << 30) end"
                 " if t == 'nan' then return 0 / 0 end"
                 " if t == 'high' then return 1.01 end return -0.0 end}");
    struct env_score s;

    s = score_of(env, "error");
    assert_int_equal(s.outcome, ENV_FAILED_ERROR);
    assert_contains(s.why, "on purpose");
    assert_true(s.reward == 0.0f);
    assert_int_equal(score_of(env, "loop").outcome, ENV_FAILED_LIMIT);
    assert_int_equal(score_of(env, "memory").outcome, ENV_FAILED_LIMIT);
    assert_int_equal(score_of(env, "nan").outcome, ENV_FAILED_ERROR);
    s = score_of(env, "high");
    assert_int_equal(s.outcome, ENV_FAILED_ERROR);
    assert_contains(s.why, "outside 0..1");
    s = score_of(env, "zero");
    assert_int_equal(s.outcome, ENV_SCORED);
    assert_false(signbit(s.reward));
    env_close(&env);
}

static void a_prompt_that_fails_says_how(void **state)
{
    (void)state;
    struct env *env = open_env("return {prompt = function(p) if p.seed == 7 then error('no')"
                               " end while true do end end, score = type}");
    struct env_problem other = {0, 8, ENV_TRAIN};
    struct err e = {0};
    struct buf text;

    buf_init(&text, 4096);
    assert_status(env_prompt(env, &first, &text, &e), ERR_INVALID, &e);
    assert_contains(e.text, "prompt: env.lua:1: no");
    assert_status(env_prompt(env, &other, &text, &e), ERR_LIMIT, &e);
    assert_status(env_demo(env, &first, &text, &e), ERR_NOT_FOUND, &e);
    assert_int_equal(text.len, 0);
    buf_clear(&text);
    env_close(&env);
}

static void a_script_that_does_not_load_is_refused_with_its_message(void **state)
{
    (void)state;
    struct env *env;
    struct err e = {0};

    assert_status(open_yaml(&env, HEAD, "local x = = 1", &e), ERR_INVALID, &e);
    assert_contains(e.text, "env.lua:1:");
    assert_null(env);
    assert_status(open_yaml(&env, HEAD, "while true do end", &e), ERR_LIMIT, &e);
    assert_null(env);
}

/* A pattern whose search is exponential runs inside one instruction. */
static const char bomb[] =
    "return {prompt = function() return 'p' end, score = function(p, m)"
    " if m[1].text == 'bomb' then local s = ('x'):rep(60)"
    " return s:find(('.*'):rep(20) .. 'b') and 1 or 0 end return 0.5 end}";

static void a_pattern_bomb_is_killed_without_a_verdict(void **state)
{
    (void)state;
    struct env_score s;
    struct err e = {0};
    struct env *env;
    int64_t before;

    assert_ok(open_yaml(&env, "name: x\nenvironment: {wall_ms: 300}\n", bomb, &e), &e);
    before = clock_mono_ms();
    assert_status(env_score_text(env, &first, BYTES_LIT("bomb"), &s, &e), ERR_TIMEOUT, &e);

    assert_true(clock_mono_ms() - before >= 300);
    assert_contains(e.text, "300 ms");
    assert_int_equal(worker_pid(), 0);
    assert_true(score_of(env, "fine").reward == 0.5f); /* a new worker serves */
    env_close(&env);
}

static void a_killed_worker_is_replaced(void **state)
{
    (void)state;
    struct env *env = open_env(echo);
    pid_t pid = worker_pid();

    assert_true(pid > 0);
    kill(pid, SIGKILL);

    assert_true(score_of(env, "right").reward == 1.0f);
    assert_int_not_equal(worker_pid(), pid);
    env_close(&env);
    assert_int_equal(worker_pid(), 0);
}

static void the_worker_has_no_descriptors_and_no_environment(void **state)
{
    (void)state;
    int leaked = open("/dev/null", O_RDONLY); /* not close-on-exec */
    struct env *env = open_env(echo);
    char path[64], target[128];
    int n = 0;
    ssize_t len;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)worker_pid());
    d = opendir(path);
    if (!d) { /* undumpable: only root may look */
        close(leaked);
        env_close(&env);
        return;
    }
    for (struct dirent *entry; (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    closedir(d);
    snprintf(path, sizeof(path), "/proc/%d/fd/0", (int)worker_pid());
    len = readlink(path, target, sizeof(target) - 1);
    target[len > 0 ? len : 0] = '\0';

    assert_int_equal(n, 3);
    assert_contains(target, "socket:");
    close(leaked);
    env_close(&env);
}

static void two_workers_give_the_same_bits(void **state)
{
    (void)state;
    static const char lua[] =
        "local t = {}\n"
        "return {prompt = function(p) for i = 1, 300 do t['k' .. math.random(50)] = i"
        " t[math.random(40)] = nil t[math.random(40)] = i t['k' .. math.random(50)] = nil end"
        " local s = '' for k, v in pairs(t) do s = s .. k .. '=' .. v .. ' ' end"
        " return s .. #t .. ' ' .. math.exp(math.random()) ^ 0.3 end, score = type}";
    struct buf text[2];

    for (int i = 0; i < 2; i++) {
        struct env *env = open_env(lua);

        buf_init(&text[i], 1 << 16);
        assert_ok(env_prompt(env, &first, &text[i], NULL), NULL);
        env_close(&env);
    }

    assert_true(text[0].len > 100);
    assert_true(bytes_equal(buf_bytes(&text[0]), buf_bytes(&text[1])));
    buf_clear(&text[0]);
    buf_clear(&text[1]);
}

static void episodes_too_long_are_refused(void **state)
{
    (void)state;
    struct env *env = open_env(echo);
    struct env_message m[ENV_MESSAGES_MAX + 1] = {{0}};
    struct env_score s;

    assert_status(env_score(env, &first, m, ENV_MESSAGES_MAX + 1, &s, NULL), ERR_LIMIT, NULL);
    assert_ok(env_score(env, &first, m, ENV_MESSAGES_MAX, &s, NULL), NULL);
    env_close(&env);
}

static void a_program_that_is_no_worker_is_an_error(void **state)
{
    (void)state;
    struct env_options opt = {.program = "/bin/false"};
    struct bundle b = {0};
    struct env *env;
    struct err e = {0};
    struct task t;

    assert_ok(task_parse(&t, BYTES_LIT(HEAD), "task.yaml", &e), &e);
    b.file[BUNDLE_ENV] = BYTES_LIT(echo);

    assert_status(env_open(&env, &t, &b, &opt, &e), ERR_IO, &e);
    opt.program = "/nonexistent/program";
    assert_status(env_open(&env, &t, &b, &opt, &e), ERR_IO, &e);
    assert_contains(e.text, "/nonexistent/program");
    task_clear(&t);
}

/* Else a program whose main() forgets env_is_worker() would start itself without end. */
static void a_worker_opens_no_environment(void **state)
{
    struct env *env;
    struct err e = {0};

    (void)state;
    setenv("MUSTER_ENV_WORKER", "1", 1);
    assert_int_equal(open_yaml(&env, HEAD, "return {}", &e), ERR_DENIED);
    assert_contains(e.text, "env_is_worker()");
    unsetenv("MUSTER_ENV_WORKER");
}

int main(int argc, char **argv)
{
    struct err e;

    if (env_is_worker(argc, argv))
        return env_worker_main();
    if (env_sandbox_check(&e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_opens_no_environment),
        cmocka_unit_test(a_problem_is_posed_shown_and_scored),
        cmocka_unit_test(an_episode_of_several_turns_runs),
        cmocka_unit_test(a_failing_script_scores_the_least_reward),
        cmocka_unit_test(a_prompt_that_fails_says_how),
        cmocka_unit_test(a_script_that_does_not_load_is_refused_with_its_message),
        cmocka_unit_test(a_pattern_bomb_is_killed_without_a_verdict),
        cmocka_unit_test(a_killed_worker_is_replaced),
        cmocka_unit_test(the_worker_has_no_descriptors_and_no_environment),
        cmocka_unit_test(two_workers_give_the_same_bits),
        cmocka_unit_test(episodes_too_long_are_refused),
        cmocka_unit_test(a_program_that_is_no_worker_is_an_error),
    };

    return cmocka_run_group_tests_name("envs/env", tests, NULL, NULL);
}
