/* Does what its standard input says, one operation a line, and answers each with its errno: what
 * disk.c is tried with. Operations: write NAME AT TEXT, direct NAME AT LETTER (4096 of it, O_DIRECT),
 * cut NAME SIZE, sync NAME, sync_folder, remove NAME, rename NAME TO. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *folder;

static const char *path(const char *name, int which) {
  static char paths[2][4200];
  snprintf(paths[which], sizeof paths[which], "%s/%s", folder, name);
  return paths[which];
}

static int on_file(const char *name, int flags, const char *what, long at, const char *text) {
  int fd = open(path(name, 0), O_RDWR | flags, 0644), failed = 1;
  if (fd < 0) return errno;
  if (!strcmp(what, "write")) {
    failed = pwrite(fd, text, strlen(text), at) != (ssize_t)strlen(text);
  } else if (!strcmp(what, "direct")) {
    void *block;
    if (posix_memalign(&block, 4096, 4096)) return ENOMEM;
    memset(block, *text, 4096);
    failed = pwrite(fd, block, 4096, at) != 4096;
    free(block);
  } else if (!strcmp(what, "cut")) {
    failed = ftruncate(fd, at);
  } else if (!strcmp(what, "sync")) {
    failed = fdatasync(fd);
  }
  int error = failed ? errno : 0;
  close(fd);
  return error;
}

static int sync_folder(void) {
  int fd = open(folder, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return errno;
  int error = fsync(fd) ? errno : 0;
  close(fd);
  return error;
}

int main(int count, char **arguments) {
  char line[8192], what[64], name[256], text[4096];
  if (count != 2) return 2;
  folder = arguments[1];
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin)) {
    long at = 0;
    int error = EINVAL;
    *name = *text = 0;
    if (sscanf(line, "%63s %255s", what, name) < 1) continue;
    if (!strcmp(what, "sync_folder")) {
      error = sync_folder();
    } else if (!strcmp(what, "remove")) {
      error = unlink(path(name, 0)) ? errno : 0;
    } else if (!strcmp(what, "rename")) {
      sscanf(line, "%*s %*s %255s", text);
      error = rename(path(name, 0), path(text, 1)) ? errno : 0;
    } else {
      sscanf(line, "%*s %*s %ld %4095s", &at, text);
      int creates = !strcmp(what, "write") || !strcmp(what, "direct");
      int flags = (creates ? O_CREAT : 0) | (!strcmp(what, "direct") ? O_DIRECT : 0);
      error = on_file(name, flags, what, at, text);
    }
    printf("%d\n", error);
  }
  return 0;
}
