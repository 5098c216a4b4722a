/*
 * cli/cmd_model.h - words of `muster model` that have files of their own
 */
#ifndef CLI_CMD_MODEL_H
#define CLI_CMD_MODEL_H

int cmd_model_convert(int argc, char **argv);
int cmd_model_generate(int argc, char **argv);

#endif
