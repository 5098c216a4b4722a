/* See cmocka.h beside it. */
#include <stddef.h>

#include <cmocka.h>

static jmp_buf place;

jmp_buf *stand_in_place(void)
{
    return &place;
}

static int run_test(const struct CMUnitTest *t, void *group_state)
{
    void *state = t->initial_state ? t->initial_state : group_state;
    volatile int is_bad = 0;
    void **volatile lent = &state;

    printf("[ RUN      ] %s\n", t->name);
    fflush(stdout);
    if (t->setup_func && t->setup_func(lent) != 0)
        is_bad = 1;
    else if (setjmp(place) == 0)
        t->test_func(lent);
    else
        is_bad = 1;
    if (t->teardown_func && t->teardown_func(lent) != 0)
        is_bad = 1;
    printf("[ %s ] %s\n", is_bad ? " FAILED " : "      OK", t->name);
    fflush(stdout);
    return is_bad;
}

int stand_in_run(const char *name, const struct CMUnitTest *tests, size_t n,
                 CMFixtureFunction setup, CMFixtureFunction teardown)
{
    void *state = NULL;
    int n_bad = 0;

    printf("[==========] %s: %zu test(s)\n", name, n);
    if (setup && setup(&state) != 0)
        return 1;
    for (size_t i = 0; i < n; i++)
        n_bad += run_test(&tests[i], state);
    if (teardown && teardown(&state) != 0)
        n_bad++;
    printf("[==========] %zu passed, %d failed\n", n - (size_t)n_bad, n_bad);
    return n_bad;
}
