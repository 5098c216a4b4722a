/*
 * envs/task_keys.h - the table of a task file's settings (private to envs/)
 */
#ifndef ENVS_TASK_KEYS_H
#define ENVS_TASK_KEYS_H

#include "base/options.h"
#include "envs/task.h"

#define TASK_KEYS_MAX 96u

/* Fills `table` with one row per key, pointing into *t; returns their number. */
size_t task_keys(struct opt table[TASK_KEYS_MAX], struct task *t);

#endif
