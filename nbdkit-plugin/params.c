/* SPDX-License-Identifier: Apache-2.0 */
/* params.c - reading the plugin's parameters, see params.h. */
#include "nbdkit-plugin/params.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/nearest.h"
#include "fetch/settings.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* All but the settings, which config_setting.c knows. */
static const char *const known[] = { "config", "control", "digest", "dir",
				     "image",  "service", "upper",  "upper-garbage" };

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

bool params_is_reference(const char *text)
{
	const char *slash = strchr(text, '/');
	const char *last = strrchr(text, '/');
	size_t host = slash ? (size_t)(slash - text) : 0;

	if (text[0] == '/' || text[0] == '.' || ends_with(text, ".yaml") ||
	    ends_with(text, ".json"))
		return false;
	if (strchr(last ? last : text, ':')) /* before a tag, or in a digest */
		return true;
	return host > 0 && (memchr(text, '.', host) || memchr(text, ':', host) ||
			    strncmp(text, "localhost/", host + 1) == 0);
}

static int set_path(char **to, const char *key, const char *value, struct err *e)
{
	if (*to)
		return err_set(e, EINVAL, "%s= is given twice", key);
	if (value[0] == '\0')
		return err_set(e, EINVAL, "%s= is empty", key);
	*to = io_absolute_path(NULL, value);
	if (!*to)
		return err_set(e, errno, "%s=%s: %s", key, value, strerror(errno));
	return 0;
}

static int set_config(struct params *p, const char *value, struct err *e)
{
	int r = set_path(&p->config, "config", value, e);

	if (r < 0)
		return r;
	if (access(p->config, F_OK) < 0 && params_is_reference(value))
		return err_set(e, EINVAL, "%s: no such file; did you mean image=%s?", value, value);
	return 0;
}

static int set_image(struct params *p, const char *value, struct err *e)
{
	int r;

	if (p->image)
		return err_set(e, EINVAL, "image= is given twice");
	r = config_check_reference(value, e);
	if (r < 0)
		return err_wrap(e, r, "image=");
	p->image = strdup(value);
	return p->image ? 0 : err_set(e, ENOMEM, "image=: out of memory");
}

static int set_digest(struct params *p, const char *value, struct err *e)
{
	if (p->digest)
		return err_set(e, EINVAL, "digest= is given twice");
	if (!digest_is_any(value))
		return err_set(e, EINVAL, "digest=: not " DIGEST_FORM);
	p->digest = strdup(value);
	p->options.digest = p->digest;
	return p->digest ? 0 : err_set(e, ENOMEM, "digest=: out of memory");
}

static int set_service(struct params *p, const char *value, struct err *e)
{
	int r;

	if (strcmp(value, "none") != 0) {
		r = set_path(&p->service, "service", value, e);
	} else if (p->service) {
		r = err_set(e, EINVAL, "service= is given twice");
	} else {
		p->service = strdup(value);
		r = p->service ? 0 : err_set(e, ENOMEM, "service=: out of memory");
	}
	p->options.service = p->service;
	return r;
}

static int set_upper(struct params *p, const char *value, struct err *e)
{
	int r;

	if (ends_with(value, ".data") || ends_with(value, ".index"))
		return err_set(e, EINVAL,
			       "upper=%s: the name is without '.data' and '.index', which both its "
			       "files have",
			       value);
	r = set_path(&p->upper, "upper", value, e);
	p->options.upper = p->upper;
	return r;
}

static int set_control(struct params *p, const char *value, struct err *e)
{
	int r = set_path(&p->control, "control", value, e);

	p->options.control = p->control;
	return r;
}

static int set_garbage(struct params *p, const char *value, struct err *e)
{
	unsigned unused;
	int r;

	if (p->upper_garbage)
		return err_set(e, EINVAL, "upper-garbage= is given twice");
	r = config_parse_percent(value, &unused, e);
	if (r < 0)
		return err_wrap(e, r, "upper-garbage=");
	p->upper_garbage = strdup(value);
	p->options.upper_garbage = p->upper_garbage;
	return p->upper_garbage ? 0 : err_set(e, ENOMEM, "upper-garbage=: out of memory");
}

/* nbdkit changes to another folder before the settings are used. */
static int note_folder(struct params *p, struct err *e)
{
	if (!p->folder)
		p->folder = getcwd(NULL, 0);
	if (!p->folder)
		return err_set(e, errno, "the working directory: %s", strerror(errno));
	p->options.folder = p->folder;
	return 0;
}

static int append(struct params *p, const char *name, const char *value, struct err *e)
{
	size_t n = p->options.setting_count;
	char *copy = strdup(value);
	struct config_setting *grown = copy ? realloc(p->settings, (n + 1) * sizeof *grown) : NULL;

	if (!grown) {
		free(copy);
		return err_set(e, ENOMEM, "%s=: out of memory", name);
	}
	grown[n] = (struct config_setting){ name, copy };
	p->settings = grown;
	p->options.settings = grown;
	p->options.setting_count++;
	return 0;
}

/* Checks setting i by having it read, into settings that nobody needs. */
static int add_setting(struct params *p, size_t i, const char *value, struct err *e)
{
	const char *name = config_setting_name(i);
	struct fetch_settings scratch = { 0 };
	struct config_level level = { .is_parameter = true };
	size_t k;
	int r;

	for (k = 0; k < p->options.setting_count; k++)
		if (p->settings[k].name == name && !config_setting_is_list(i))
			return err_set(e, EINVAL, "%s= is given twice", name);
	r = note_folder(p, e);
	if (r < 0)
		return r;
	r = config_setting_apply(&level, i, value, &scratch, e);
	fetch_settings_release(&scratch);
	return r < 0 ? err_wrap(e, r, "%s=", name) : append(p, name, value, e);
}

/* Whether a text says where a password is: "-", -FD or +FILE. */
static bool is_password_place(const char *value)
{
	return (value[0] == '+' && value[1] != '\0') ||
	       (value[0] == '-' && value[1 + strspn(value + 1, "0123456789")] == '\0');
}

static int add_password(struct params *p, size_t i, const char *value,
			int (*read_password)(const char *value, char **password), struct err *e)
{
	char *password = NULL;
	int r;

	if (!is_password_place(value))
		return err_set(e, EINVAL,
			       "password= would show it in the process list: use "
			       "password=+FILE, or password=- to be asked");
	if (read_password(value, &password) < 0)
		return 1;
	r = add_setting(p, i, password, e);
	explicit_bzero(password, strlen(password));
	free(password);
	return r;
}

static int refuse_key(const char *key, struct err *e)
{
	const char *names[COUNT_OF(known) + CONFIG_SETTING_COUNT], *near;
	size_t i;

	memcpy(names, known, sizeof known);
	for (i = 0; i < CONFIG_SETTING_COUNT; i++)
		names[COUNT_OF(known) + i] = config_setting_name(i);
	near = nearest_word(key, names, COUNT_OF(names));
	if (near)
		return err_set(e, EINVAL, "unknown parameter '%s' (did you mean '%s'?)", key, near);
	return err_set(e, EINVAL, "unknown parameter '%s'; nbdkit overlaybd --help lists them",
		       key);
}

int params_set(struct params *p, const char *key, const char *value,
	       int (*read_password)(const char *value, char **password), struct err *e)
{
	int setting = config_setting_find(key);

	if (strcmp(key, "config") == 0)
		return set_config(p, value, e);
	if (strcmp(key, "digest") == 0)
		return set_digest(p, value, e);
	if (strcmp(key, "dir") == 0)
		return set_path(&p->dir, key, value, e);
	if (strcmp(key, "image") == 0)
		return set_image(p, value, e);
	if (strcmp(key, "service") == 0)
		return set_service(p, value, e);
	if (strcmp(key, "control") == 0)
		return set_control(p, value, e);
	if (strcmp(key, "upper") == 0)
		return set_upper(p, value, e);
	if (strcmp(key, "upper-garbage") == 0)
		return set_garbage(p, value, e);
	if (setting < 0)
		return refuse_key(key, e);
	return strcmp(key, "password") == 0
		       ? add_password(p, (size_t)setting, value, read_password, e)
		       : add_setting(p, (size_t)setting, value, e);
}

int params_complete(const struct params *p, struct err *e)
{
	int given = !!p->config + !!p->dir + !!p->image;
	size_t i;

	if (given > 1)
		return err_set(e, EINVAL, "config=, dir= and image= exclude each other");
	if (p->dir && p->digest)
		return err_set(e, EINVAL, "dir= and digest= exclude each other");
	if (p->dir && p->control)
		return err_set(e, EINVAL,
			       "dir= and control= exclude each other: name a socket for each image "
			       "in its config");
	if (p->dir && p->upper)
		return err_set(e, EINVAL,
			       "dir= and upper= exclude each other: each image has its own upper");
	for (i = 0; p->dir && i < p->options.setting_count; i++)
		if (strcmp(p->settings[i].name, "trace-file") == 0)
			return err_set(e, EINVAL,
				       "dir= and trace-file= exclude each other: its images would "
				       "share one trace");
	if (given == 0)
		return err_set(e, EINVAL,
			       "nothing to serve: config=FILE, dir=DIR or image=REF is needed");
	return 0;
}

void params_release(struct params *p)
{
	size_t i;

	for (i = 0; i < p->options.setting_count; i++) {
		char *value = p->settings[i].value; /* a password, maybe */

		explicit_bzero(value, strlen(value));
		free(value);
	}
	free(p->settings);
	free(p->folder);
	free(p->service);
	free(p->digest);
	free(p->upper);
	free(p->upper_garbage);
	free(p->control);
	free(p->image);
	free(p->config);
	free(p->dir);
	*p = (struct params){ 0 };
}
