/* "Q,S,STEPS" on the command line: steps of one subsampled Gaussian. */
#ifndef CLI_EVENT_H
#define CLI_EVENT_H

#include "psg/accountant.h"

/* -1: it is not written like that. Ranges are the accountant's care. */
int event_parse(const char *text, struct psg_dp_event *event);

#endif
