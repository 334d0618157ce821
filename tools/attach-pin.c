/* SPDX-License-Identifier: Apache-2.0 */
/* attach-pin.c - see attach-pin.h. */
#include "tools/attach-pin.h"

#include <string.h>

#include "core/config.h"
#include "fetch/fetcher.h"
#include "fetch/manifest.h"
#include "fetch/remote.h"

static int ask(const struct image_config *config, const struct reference *ref,
	       char digest[DIGEST_ANY_TEXT], struct err *e)
{
	struct manifest manifest = { 0 };
	struct fetcher *fetcher;
	struct remote *remote;
	int r = fetcher_open(&fetcher, e);

	if (r < 0)
		return r;
	r = remote_open(fetcher, &config->fetch, ref, NULL, false, &remote, e);
	if (r == 0) {
		r = remote_resolve(remote, &manifest, digest, e);
		manifest_release(&manifest);
		remote_shut(remote);
		remote_close(remote);
	}
	fetcher_close(fetcher);
	return r;
}

static int pin_image(const struct image_config *config, char digest[DIGEST_ANY_TEXT], struct err *e)
{
	struct reference ref;
	int r = reference_parse(config->image, &ref, e);

	if (r < 0)
		return r;
	if (ref.digest[0] != '\0')
		digest_copy(digest, ref.digest);
	else
		r = ask(config, &ref, digest, e);
	reference_release(&ref);
	return r;
}

int attach_pin(const char *source, bool is_config, const struct settings *settings,
	       char digest[DIGEST_ANY_TEXT], struct err *e)
{
	struct image_config *config;
	int r;

	digest[0] = '\0';
	r = is_config ? config_load(source, &settings->options, &config, e)
		      : config_from_image(source, &settings->options, &config, e);
	if (r < 0)
		return r;
	if (config->image) {
		r = pin_image(config, digest, e);
		if (r < 0 && is_config)
			(void)err_wrap(e, r, "%s", source);
	}
	config_free(config);
	return r;
}
