/*
 * task_parse over arbitrary bytes: what it accepts passes the check again and can be printed.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "envs/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text;
    struct task t;
    struct err e;

    if (task_parse(&t, (struct bytes){data, size}, "fuzz", &e) == OK) {
        CHECK(task_check(&t, NULL) == OK);
        buf_init(&text, 1u << 20);
        task_print(&text, &t);
        CHECK(!text.bad && text.len > 0);
        buf_clear(&text);
    } else {
        CHECK(e.text[0]);
        CHECK(t.environment.n_params == 0);
    }
    task_clear(&t);
    return 0;
}
