/* Makes a plugin that claims an ABI of the past. */
#include <psg/plugin.h>
#undef PSG_PLUGIN_ABI
#define PSG_PLUGIN_ABI 0
