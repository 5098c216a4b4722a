/*
 * muster relay: pass weight shards on
 */
#include "cli/commands.h"
#include "cli/role_options.h"
#include "cli/usage.h"
#include "shardcast/relay.h"

int cmd_relay(int argc, char **argv)
{
    struct role_options o = {0};
    int64_t keep, max_gib, pin[CAST_PINS_MAX];
    char *pins = NULL;
    size_t n_pins;
    struct opt table[ROLE_OPTIONS_COUNT + 3] = {
        [ROLE_OPTIONS_COUNT] = {"keep", OPT_INT, &keep, "6", "1..64",
                                "newest weight versions to keep", false},
        {"max-gib", OPT_INT, &max_gib, "64", "1..65536",
         "ceiling of the shards on disk, in GiB", false},
        {"pin", OPT_STRING, &pins, "", NULL,
         "versions that are kept whatever their age, like 0,64,128", false},
    };
    struct usage u = {
        .line = "muster relay --dir DIR [--join LINK] [options]",
        .about = "Fetches every weight version and serves its shards to whoever asks. It can "
                 "withhold, and nothing else: each byte is checked against the trainer's "
                 "signature by those who fetch it.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status;

    role_options_table(table, &o);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && relay_parse_pins(pin, &n_pins, pins, &e))
        status = usage_complain(u.line, "%s", e.text);
    if (status == USAGE_RUN) {
        const struct relay_options run = {.node = role_options_apply(&o),
                                          .max_bytes = (uint64_t)max_gib << 30,
                                          .keep = (uint32_t)keep,
                                          .pin = pin,
                                          .n_pins = n_pins};
        status = role_finish("relay", relay_run(&run, &e), &e);
    }
    opt_clear(table, u.n);
    return status;
}
