package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names of temporary files: what a killed run left behind is told from
// anybody's files by this pattern, and from a live run's files by a lock.
const (
	tempPrefix = ".slim-"
	tempSuffix = ".tmp"
)

// lockPoll is how often a held lock is tried again, so that a cancelled
// context ends the wait.
const lockPoll = 50 * time.Millisecond

// tempFile is a file beside its target that takes the target's name when it
// is complete. It stays locked until then.
type tempFile struct {
	*os.File
	lock *os.File
}

// createTemp creates a temporary file in dir with the permissions of a new
// file under the umask, and holds a lock on it.
func createTemp(dir string) (*tempFile, error) {
	for range 100 {
		path := filepath.Join(dir, tempPrefix+rand.Text()+tempSuffix)
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return nil, fmt.Errorf("creating a temporary file: %w", err)
		}
		// The lock has a descriptor of its own: it outlives the closing of
		// the data, whose error counts, and ends after the rename.
		lock, err := os.Open(path)
		if err == nil {
			err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			if lockUnsupported(err) || err == nil && stillNamed(lock, path) {
				return &tempFile{File: f, lock: lock}, nil
			}
			lock.Close()
		}
		// Another run took the file for a leftover before it was locked.
		f.Close()
		os.Remove(path)
	}
	return nil, fmt.Errorf("creating a temporary file in %q: every one was removed at once", dir)
}

// commit closes the file and renames it to target.
func (t *tempFile) commit(target string) error {
	defer t.lock.Close()
	if err := t.Close(); err != nil {
		os.Remove(t.Name())
		return fmt.Errorf("closing %q: %w", t.Name(), err)
	}
	if err := os.Rename(t.Name(), target); err != nil {
		os.Remove(t.Name())
		return fmt.Errorf("renaming the complete file: %w", err)
	}
	return nil
}

// discard removes the file.
func (t *tempFile) discard() {
	t.Close()
	os.Remove(t.Name())
	t.lock.Close()
}

// removeLeftovers removes the temporary files of killed runs from dir: those
// that nobody holds a lock on. Errors are ignored, the next run tries again.
func removeLeftovers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) || !e.Type().IsRegular() {
			continue
		}
		removeUnlocked(filepath.Join(dir, e.Name()))
	}
}

func removeUnlocked(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		os.Remove(path)
	}
}

// lockFile creates path if it does not exist and waits until this process
// alone holds a lock on it, or ctx ends.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if errors.Is(err, os.ErrPermission) {
			f, err = os.Open(path)
		}
		if err != nil {
			return nil, err
		}
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case lockUnsupported(err) || err == nil && stillNamed(f, path):
			return f, nil
		case err == nil:
			// The holder before us removed the file: lock the one that is
			// there now.
			f.Close()
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		f.Close()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}

// lockUnsupported tells that the file system has no such locks; runs are then
// told apart by their random names alone.
func lockUnsupported(err error) bool {
	return errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EBADF)
}

// stillNamed tells whether path still names the open file f.
func stillNamed(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Lstat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// createSpool returns a file without a name in dir, or in the directory for
// large temporary files where dir is empty: TMPDIR, else /var/tmp.
func createSpool(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.Getenv("TMPDIR")
	}
	if dir == "" {
		dir = "/var/tmp"
	}
	if f, err := openUnnamed(dir); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, "slim-spool-*")
	if err != nil {
		return nil, fmt.Errorf("creating a spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlinking a spool: %w", err)
	}
	return f, nil
}
