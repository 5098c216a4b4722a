/*
 * support/tempdir.h - a directory of the test's own
 *
 * It is made under $TMPDIR (or /tmp) and removed with all that is in it. KEEP_TEMP=1 in the
 * environment keeps it and prints where it is.
 */
#ifndef SUPPORT_TEMPDIR_H
#define SUPPORT_TEMPDIR_H

/* The path of a new directory, to be given back to tempdir_remove(). */
char *tempdir_make(void);
/* Removes the tree, frees the path and sets it to NULL. NULL is fine. */
void tempdir_remove(char **path);
/* "dir/name" in a buffer that the next calls of this function overwrite (eight of them live). */
const char *tempdir_path(const char *dir, const char *name);

/* cmocka fixtures: *state is the path. */
int tempdir_setup(void **state);
int tempdir_teardown(void **state);

#endif
