/* A disk that fails, for a process that is started with LD_PRELOAD (see tests/src/disk.rs).
 *
 * It stands between a process and the C library for files below OTTLA_DISK_ROOT and does what the
 * control file OTTLA_DISK_CONTROL says, a struct that both processes map:
 *
 * - fails syncs and writes of chosen kinds of files with a chosen errno;
 * - delays syncs, or answers them and does nothing;
 * - lets files grow up to a quota, and answers statvfs accordingly;
 * - loses power: undoes every write, truncation, creation, rename and unlink that was not synced, and
 *   ends the process. Data counts as synced by fsync or fdatasync of its file, a name by fsync of its
 *   folder, and by nothing else: not by O_DIRECT, not by sync_file_range. Each undone write is undone
 *   wholly; a disk that keeps some of them is simulated by `torn`, which keeps a prefix of the newest.
 *
 * While power can be lost, syncs do not reach the real disk: they only decide what is kept.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOG = 1, SST = 2, BLOB = 4, MANIFEST = 8, OTHER = 16, FOLDER = 32 };

struct control {
  volatile uint32_t lose_power;   /* 1: now */
  volatile uint32_t can_lose;     /* keep what is needed to undo */
  volatile uint32_t sync_errno;   /* of files of sync_kinds; 0: none */
  volatile uint32_t sync_kinds;
  volatile uint32_t sync_fails;   /* how many syncs fail; UINT32_MAX: all */
  volatile uint32_t write_errno;
  volatile uint32_t write_kinds;
  volatile uint32_t write_fails;
  volatile uint32_t sync_delay_us;
  volatile uint32_t torn;         /* bytes of the newest unsynced write that a power loss keeps */
  volatile uint64_t quota_bytes;  /* 0: none */
  volatile uint64_t used_bytes;
  volatile uint32_t failed_syncs; /* counted here */
  volatile uint32_t failed_writes;
  volatile uint32_t forget_syncs; /* syncs are answered, and do nothing */
};

/* A write or truncation that is not synced: what was there before. */
struct undo {
  struct undo *older;
  off_t at;
  size_t length;
  char bytes[];
};

/* A file with something unsynced. */
struct file {
  struct file *next;
  dev_t dev;
  ino_t ino;
  int fd;
  off_t synced_size;
  off_t last_at, last_end;
  struct undo *newest;
};

/* A change of a folder that is not synced. */
struct change {
  struct change *older;
  enum { CREATED, REMOVED, RENAMED, MADE_FOLDER, REMOVED_FOLDER } what;
  char folder[PATH_MAX], path[PATH_MAX], from[PATH_MAX], grave[PATH_MAX];
};

#define FDS 65536
static struct control *control;
static char root[PATH_MAX];
static size_t root_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char kinds[FDS];
static struct file *files;
static struct change *changes;
static unsigned graves;

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int below_root(const char *path) {
  return control && path && !strncmp(path, root, root_length) &&
         (path[root_length] == '/' || !path[root_length]);
}

static int ends(const char *name, const char *end) {
  size_t n = strlen(name), e = strlen(end);
  return n >= e && !strcmp(name + n - e, end);
}

static int kind_of(const char *path) {
  struct stat st;
  if (!stat(path, &st) && S_ISDIR(st.st_mode)) return FOLDER;
  if (ends(path, ".log")) return LOG;
  if (ends(path, ".sst")) return SST;
  if (ends(path, ".blob")) return BLOB;
  return strstr(path, "/MANIFEST-") ? MANIFEST : OTHER;
}

/* What was opened here and closed by stdio, which is not seen here, may be a socket by now. */
static int kind_of_fd(int fd) {
  struct stat st;
  if (!control || fd < 0 || fd >= FDS || !kinds[fd]) return 0;
  if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) kinds[fd] = 0;
  return kinds[fd];
}

static void die(const char *what) {
  dprintf(2, "disk.c: %s: %s\n", what, strerror(errno));
  abort();
}

/* --- data --- */

static struct file *find(int fd) {
  struct stat st;
  if (fstat(fd, &st)) die("fstat");
  for (struct file *f = files; f; f = f->next)
    if (f->dev == st.st_dev && f->ino == st.st_ino) return f;
  return NULL;
}

static int own_fd(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int own = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (own < 0) die("a second descriptor");
  return own;
}

static struct file *dirty(int fd) {
  struct file *f = find(fd);
  struct stat st;
  if (f) return f;
  if (!(f = calloc(1, sizeof *f))) die("memory");
  if (fstat(fd, &st)) die("fstat");
  f->fd = own_fd(fd);
  f->dev = st.st_dev, f->ino = st.st_ino, f->synced_size = st.st_size;
  f->next = files, files = f;
  return f;
}

/* Keeps what stands at [at, at + length), as far as it is synced or written over again. */
static void keep(struct file *f, off_t at, size_t length) {
  f->last_at = at, f->last_end = at + (off_t)length;
  if (at >= f->synced_size) return;
  if (at + (off_t)length > f->synced_size) length = f->synced_size - at;
  struct undo *u = malloc(sizeof *u + length);
  if (!u) die("memory");
  size_t got = 0;
  while (got < length) {
    ssize_t n = syscall(SYS_pread64, f->fd, u->bytes + got, length - got, at + got);
    if (n <= 0) break; /* a hole that a truncation left reads as nothing */
    got += n;
  }
  u->at = at, u->length = got, u->older = f->newest, f->newest = u;
}

static void forget(struct file *f) {
  while (f->newest) {
    struct undo *u = f->newest;
    f->newest = u->older;
    free(u);
  }
}

static void synced(int fd) {
  for (struct file **at = &files; *at; at = &(*at)->next) {
    struct file *f = *at;
    struct stat st;
    if (fstat(fd, &st)) die("fstat");
    if (f->dev != st.st_dev || f->ino != st.st_ino) continue;
    forget(f);
    syscall(SYS_close, f->fd);
    *at = f->next;
    free(f);
    return;
  }
}

static void undo_data(struct file *f) {
  char *tail = NULL;
  off_t torn = control->torn;
  if (torn > f->last_end - f->last_at) torn = f->last_end - f->last_at;
  if (torn > 0 && (tail = malloc(torn)))
    if (syscall(SYS_pread64, f->fd, tail, torn, f->last_at) != torn) torn = 0;
  for (struct undo *u = f->newest; u; u = u->older)
    if (syscall(SYS_pwrite64, f->fd, u->bytes, u->length, u->at) != (ssize_t)u->length) die("undo");
  if (syscall(SYS_ftruncate, f->fd, f->synced_size)) die("undo a length");
  if (tail && torn > 0 && f->last_at <= f->synced_size)
    if (syscall(SYS_pwrite64, f->fd, tail, torn, f->last_at) != torn) die("a torn write");
}

/* --- names --- */

static void folder_of(const char *path, char *folder) {
  snprintf(folder, PATH_MAX, "%s", path);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = 0;
}

static struct change *changed(int what, const char *path) {
  struct change *c = calloc(1, sizeof *c);
  if (!c) die("memory");
  c->what = what;
  snprintf(c->path, PATH_MAX, "%s", path);
  folder_of(path, c->folder);
  c->older = changes, changes = c;
  return c;
}

/* A second name for a file that is about to lose its name. */
static int bury(const char *path, char *grave) {
  char folder[PATH_MAX + 8];
  snprintf(folder, sizeof folder, "%s.graves", root);
  syscall(SYS_mkdirat, AT_FDCWD, folder, 0700);
  snprintf(grave, PATH_MAX, "%.3900s/%d-%u", folder, getpid(), graves++);
  return !syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, grave, 0);
}

static void drop_changes(const char *folder) {
  for (struct change **at = &changes; *at;) {
    struct change *c = *at;
    if (strcmp(c->folder, folder)) {
      at = &c->older;
      continue;
    }
    if (*c->grave) syscall(SYS_unlinkat, AT_FDCWD, c->grave, 0);
    *at = c->older;
    free(c);
  }
}

static void undo_change(struct change *c) {
  switch (c->what) {
    case CREATED: syscall(SYS_unlinkat, AT_FDCWD, c->path, 0); break;
    case REMOVED: syscall(SYS_linkat, AT_FDCWD, c->grave, AT_FDCWD, c->path, 0); break;
    case RENAMED:
      syscall(SYS_renameat, AT_FDCWD, c->path, AT_FDCWD, c->from);
      if (*c->grave) syscall(SYS_linkat, AT_FDCWD, c->grave, AT_FDCWD, c->path, 0);
      break;
    case MADE_FOLDER: {
      char grave[PATH_MAX];
      bury("/nonexistent", grave);
      syscall(SYS_renameat, AT_FDCWD, c->path, AT_FDCWD, grave);
      break;
    }
    case REMOVED_FOLDER: syscall(SYS_mkdirat, AT_FDCWD, c->path, 0755); break;
  }
  if (*c->grave) syscall(SYS_unlinkat, AT_FDCWD, c->grave, 0);
}

static void lose_power(void) {
  pthread_mutex_lock(&lock);
  for (struct file *f = files; f; f = f->next) undo_data(f);
  for (struct change *c = changes; c; c = c->older) undo_change(c);
  _exit(75);
}

static void *watch(void *unused) {
  (void)unused;
  for (;;) {
    if (control->lose_power) lose_power();
    usleep(200);
  }
  return NULL;
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("OTTLA_DISK_CONTROL"), *below = getenv("OTTLA_DISK_ROOT");
  if (!path || !below) return;
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (fd < 0) die(path);
  void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) die("mmap");
  snprintf(root, sizeof root, "%s", below);
  root_length = strlen(root);
  control = map;
  pthread_t thread;
  if (pthread_create(&thread, NULL, watch, NULL)) die("a thread");
}

/* --- faults --- */

static int fails(int kind, volatile uint32_t *error, volatile uint32_t *which, volatile uint32_t *left,
                 volatile uint32_t *count) {
  if (!*error || !(kind & *which) || !*left) return 0;
  if (*left != UINT32_MAX) --*left;
  ++*count;
  errno = *error;
  return 1;
}

#define WRITE_FAILS(kind) \
  fails(kind, &control->write_errno, &control->write_kinds, &control->write_fails, &control->failed_writes)

/* Room for a file to grow to `end`. */
static int over_quota(int fd, off_t end) {
  struct stat st;
  if (!control->quota_bytes || fstat(fd, &st) || end <= st.st_size) return 0;
  uint64_t more = end - st.st_size;
  if (control->used_bytes + more > control->quota_bytes) {
    errno = ENOSPC;
    ++control->failed_writes;
    return 1;
  }
  control->used_bytes += more;
  return 0;
}

static void gives_back(const char *path) {
  struct stat st;
  if (!control->quota_bytes || stat(path, &st) || st.st_nlink > 1 || !S_ISREG(st.st_mode)) return;
  uint64_t size = st.st_size;
  control->used_bytes -= size < control->used_bytes ? size : control->used_bytes;
}

/* --- the C library's functions --- */

static int opened(const char *path, int existed, int flags, int fd) {
  if (fd < 0 || fd >= FDS) return fd;
  kinds[fd] = kind_of(path);
  if (!existed && (flags & O_CREAT) && control->can_lose) changed(CREATED, path);
  return fd;
}

static int open_below(const char *path, int flags, mode_t mode) {
  struct stat st;
  pthread_mutex_lock(&lock);
  int existed = !stat(path, &st);
  int cut = existed && (flags & O_TRUNC) && S_ISREG(st.st_mode) && st.st_size > 0;
  int fd = syscall(SYS_openat, AT_FDCWD, path, cut ? flags & ~O_TRUNC : flags, mode);
  if (fd >= 0 && cut) {
    if (control->can_lose) keep(dirty(fd), 0, st.st_size);
    if (control->quota_bytes) gives_back(path);
    if (syscall(SYS_ftruncate, fd, 0)) die("O_TRUNC");
  }
  opened(path, existed, flags, fd);
  pthread_mutex_unlock(&lock);
  return fd;
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
      va_list more; \
      va_start(more, flags); \
      mode = va_arg(more, mode_t); \
      va_end(more); \
    } \
    if (below_root(path)) return open_below(path, flags, mode); \
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  if (fd >= 0 && fd < FDS) kinds[fd] = 0;
  return syscall(SYS_close, fd);
}

static ssize_t put(int fd, const void *bytes, size_t length, off_t at, int moves) {
  int kind = kind_of_fd(fd);
  if (!kind)
    return moves ? syscall(SYS_write, fd, bytes, length) : syscall(SYS_pwrite64, fd, bytes, length, at);
  ssize_t n = -1;
  pthread_mutex_lock(&lock);
  if (!WRITE_FAILS(kind)) {
    struct stat st;
    if (moves) at = lseek(fd, 0, SEEK_CUR);
    if (moves && (fcntl(fd, F_GETFL) & O_APPEND) && !fstat(fd, &st)) at = st.st_size;
    if (!over_quota(fd, at + length)) {
      if (control->can_lose) keep(dirty(fd), at, length);
      n = moves ? syscall(SYS_write, fd, bytes, length) : syscall(SYS_pwrite64, fd, bytes, length, at);
    }
  }
  pthread_mutex_unlock(&lock);
  return n;
}

ssize_t write(int fd, const void *bytes, size_t length) { return put(fd, bytes, length, 0, 1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return put(fd, bytes, length, at, 0); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return put(fd, bytes, length, at, 0); }

static int cut(int fd, off_t size) {
  if (!kind_of_fd(fd)) return syscall(SYS_ftruncate, fd, size);
  struct stat st;
  pthread_mutex_lock(&lock);
  int result = -1;
  if (!WRITE_FAILS(kind_of_fd(fd)) && !over_quota(fd, size)) {
    if (control->can_lose && !fstat(fd, &st) && size != st.st_size)
      keep(dirty(fd), size, st.st_size > size ? st.st_size - size : 0);
    result = syscall(SYS_ftruncate, fd, size);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off_t size) { return cut(fd, size); }

static int allocate(int fd, int mode, off_t at, off_t length) {
  if (!kind_of_fd(fd)) return syscall(SYS_fallocate, fd, mode, at, length);
  pthread_mutex_lock(&lock);
  int result = -1;
  if (!WRITE_FAILS(kind_of_fd(fd)) && (mode & FALLOC_FL_KEEP_SIZE || !over_quota(fd, at + length))) {
    if (control->can_lose) dirty(fd);
    result = syscall(SYS_fallocate, fd, mode, at, length);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int fallocate(int fd, int mode, off_t at, off_t length) { return allocate(fd, mode, at, length); }
int fallocate64(int fd, int mode, off_t at, off_t length) { return allocate(fd, mode, at, length); }

static int sync_file(int fd, int number) {
  int kind = kind_of_fd(fd);
  if (!kind) return syscall(number, fd);
  if (control->sync_delay_us) usleep(control->sync_delay_us);
  pthread_mutex_lock(&lock);
  int result = -1;
  if (!fails(kind, &control->sync_errno, &control->sync_kinds, &control->sync_fails, &control->failed_syncs)) {
    if (!control->can_lose) {
      pthread_mutex_unlock(&lock);
      return syscall(number, fd);
    }
    result = 0;
    if (control->forget_syncs) {
      /* what a loss of power undoes stays as it is */
    } else if (kind == FOLDER) {
      char link[64], folder[PATH_MAX];
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      ssize_t n = readlink(link, folder, sizeof folder - 1);
      if (n < 0) die("readlink");
      folder[n] = 0;
      drop_changes(folder);
    } else {
      synced(fd);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int remove_name(int folder, const char *path, int flags) {
  struct stat st;
  char grave[PATH_MAX] = "";
  pthread_mutex_lock(&lock);
  int is_folder = !stat(path, &st) && S_ISDIR(st.st_mode);
  gives_back(path);
  int buried = control->can_lose && !is_folder && bury(path, grave);
  int result = syscall(SYS_unlinkat, folder, path, flags);
  if (!result && (buried || (is_folder && control->can_lose)))
    snprintf(changed(is_folder ? REMOVED_FOLDER : REMOVED, path)->grave, PATH_MAX, "%s", grave);
  else if (buried)
    syscall(SYS_unlinkat, AT_FDCWD, grave, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int unlink(const char *path) {
  return below_root(path) ? remove_name(AT_FDCWD, path, 0) : syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
  return below_root(path) ? remove_name(AT_FDCWD, path, AT_REMOVEDIR)
                          : syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int unlinkat(int folder, const char *path, int flags) {
  char whole[PATH_MAX], link[64];
  if (control && path[0] != '/' && folder >= 0) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t n = readlink(link, whole, sizeof whole - 300);
    if (n > 0) {
      snprintf(whole + n, sizeof whole - n, "/%.255s", path);
      if (below_root(whole)) return remove_name(AT_FDCWD, whole, flags);
    }
  }
  if (folder == AT_FDCWD && below_root(path)) return remove_name(AT_FDCWD, path, flags);
  return syscall(SYS_unlinkat, folder, path, flags);
}

int rename(const char *from, const char *to) {
  if (!below_root(to)) return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
  char grave[PATH_MAX] = "";
  pthread_mutex_lock(&lock);
  int buried = control->can_lose && bury(to, grave);
  if (!buried) *grave = 0;
  int result = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
  if (!result && control->can_lose) {
    struct change *c = changed(RENAMED, to);
    snprintf(c->from, PATH_MAX, "%s", from);
    snprintf(c->grave, PATH_MAX, "%s", grave);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static int second_name(const char *from, const char *to, int flags) {
  pthread_mutex_lock(&lock);
  int result = syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, flags);
  if (!result && control->can_lose) changed(CREATED, to);
  pthread_mutex_unlock(&lock);
  return result;
}

int link(const char *from, const char *to) {
  return below_root(to) ? second_name(from, to, 0) : syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
  if (a == AT_FDCWD && b == AT_FDCWD && below_root(to)) return second_name(from, to, flags);
  return syscall(SYS_linkat, a, from, b, to, flags);
}

int mkdir(const char *path, mode_t mode) {
  /* The root's own name is in a folder that is not watched. */
  if (!below_root(path) || !path[root_length]) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  pthread_mutex_lock(&lock);
  int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (!result && control->can_lose) changed(MADE_FOLDER, path);
  pthread_mutex_unlock(&lock);
  return result;
}

static int volume(int (*real)(const char *, struct statvfs *), const char *path, struct statvfs *answer) {
  int result = real(path, answer);
  if (!result && control && control->quota_bytes && below_root(path)) {
    uint64_t used = control->used_bytes, quota = control->quota_bytes;
    answer->f_blocks = quota / answer->f_frsize;
    answer->f_bavail = answer->f_bfree = (used < quota ? quota - used : 0) / answer->f_frsize;
  }
  return result;
}

int statvfs(const char *path, struct statvfs *answer) {
  REAL(statvfs);
  return volume(real, path, answer);
}

int statvfs64(const char *path, struct statvfs64 *answer) {
  REAL(statvfs);
  return volume(real, path, (struct statvfs *)answer);
}
