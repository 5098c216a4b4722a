/*
 * base/banned.h - calls that nobody here may make
 *
 * Included before every source file of ours (cmake/muster.cmake), so a use does not compile and
 * its name in the error says why. Instead: snprintf or struct buf for text, strtoll with opt_set
 * for numbers, gmtime_r for time, base/rng.h for random numbers.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

/* First, so that their own declarations are not affected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BANNED(name) name##_is_a_banned_function

#undef strcpy
#define strcpy(to, from) BANNED(strcpy)
#undef strcat
#define strcat(to, from) BANNED(strcat)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) BANNED(vsprintf)
#undef strtok
#define strtok(s, delimiters) BANNED(strtok)
#undef atoi
#define atoi(s) BANNED(atoi)
#undef atof
#define atof(s) BANNED(atof)
#undef gmtime
#define gmtime(t) BANNED(gmtime)
#undef localtime
#define localtime(t) BANNED(localtime)
#undef rand
#define rand() BANNED(rand)

#endif
