#ifndef ACCOUNTANT_RDP_H
#define ACCOUNTANT_RDP_H

#include "psg/accountant.h"

/* psg_rdp_step for arguments that are known to be valid. */
double accountant_rdp_step(double sample_rate, double noise_multiplier, double order);

#endif
