package layer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"slim/internal/flatten"
)

// Cache keeps the indexes of layers that were read and verified, one file for each,
// so that the next image on the same base need not read them. Files are found by the
// layer's digest and diffID, are complete from the moment they have their name, and
// may be deleted at any time. A file that is not as it should be is none.
type Cache struct {
	dir *os.Root
	// limit bounds the bytes of all files.
	limit int64
	// grown tells that files were added since the last look at the limit.
	grown atomic.Bool
}

const (
	// cacheLimit bounds what all files of a cache take (1 GiB).
	cacheLimit = 1 << 30
	// cacheBlock is what a file takes at least.
	cacheBlock = 4 << 10
	// cacheTempAge is the age from which a temporary file belongs to no process.
	cacheTempAge = 24 * time.Hour

	cacheSuffix     = ".index"
	cacheTempPrefix = "tmp-"
)

// OpenCache opens the cache in dir and makes it, for this user alone, if there is
// none; an empty dir is slim/index in [os.UserCacheDir]. It is an error if there is no
// such directory and none can be made, or if it is a symlink, another user's, or
// writable by others.
func OpenCache(dir string) (*Cache, error) {
	if dir == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding the cache directory: %w", err)
		}
		dir = filepath.Join(home, "slim", "index")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the cache directory: %w", err)
	}
	named, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the cache directory: %w", err)
	}
	if err := checkCacheDir(named, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("opening the cache directory %q: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the cache directory: %w", err)
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(named, opened) {
		root.Close()
		return nil, fmt.Errorf("opening the cache directory %q: it was replaced meanwhile", dir)
	}
	return &Cache{dir: root, limit: cacheLimit}, nil
}

// checkCacheDir refuses a directory that others than the user may have written.
func checkCacheDir(fi fs.FileInfo, uid int) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return errors.New("it is a symlink")
	case !fi.IsDir():
		return errors.New("it is no directory")
	case !ok || int64(st.Uid) != int64(uid):
		return errors.New("it belongs to another user")
	case fi.Mode().Perm()&0o022 != 0:
		return errors.New("others than its owner may write to it")
	}
	return nil
}

// Close lets go of the directory; layers that came from it stay. A nil Cache may be
// closed.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	return c.dir.Close()
}

// takes reports whether a layer has an index that can be cached: contents lie in
// spools, and only digests make sure that it is the same layer.
func (c *Cache) takes(b Blob) bool {
	return c != nil && !b.Bodies && b.Digest != "" && b.DiffID != ""
}

// cacheKey stands for the layer and the form of the file.
func cacheKey(b Blob) flatten.Sum {
	return sha256.Sum256([]byte(cacheMagic + b.Digest + "\n" + b.DiffID))
}

func cacheName(key flatten.Sum) string { return hex.EncodeToString(key[:]) + cacheSuffix }

// load returns a layer of the cache, or nil if it has none that is whole. It is an
// error if the attributes of all layers are too many, as it is when reading them.
func (c *Cache) load(b Blob, shared *attrs) (*Layer, error) {
	if !c.takes(b) {
		return nil, nil
	}
	key := cacheKey(b)
	name := cacheName(key)
	f, size, err := c.open(name)
	if err != nil {
		return nil, nil
	}
	d, err := decodeCached(f, size, key)
	if err != nil || b.Size >= 0 && b.Size != d.stored {
		f.Close()
		return nil, nil
	}
	own, err := d.intern(shared)
	if err != nil {
		f.Close()
		return nil, err
	}
	rows, start, err := d.rows(f)
	if err != nil {
		return nil, nil
	}
	now := time.Now()
	// Where this cannot be written nothing is removed either.
	_ = c.dir.Chtimes(name, now, now)
	return &Layer{
		Index:       &Index{file: rows, start: start, own: own, count: d.count},
		Compression: d.compression, Inflated: d.inflated, stored: d.stored, Cached: true,
	}, nil
}

// open opens a regular file; a link leads nowhere, a fifo would block.
func (c *Cache) open(name string) (*os.File, int64, error) {
	named, err := c.dir.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !named.Mode().IsRegular() || named.Size() > c.limit {
		return nil, 0, errNotCached
	}
	f, err := c.dir.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(named, opened) {
		f.Close()
		return nil, 0, errNotCached
	}
	return f, named.Size(), nil
}

// store adds a layer that was read and verified. The file gets its name once it is
// whole; another process that stores the same layer meanwhile stores the same bytes.
func (c *Cache) store(ctx context.Context, b Blob, l *Layer) (err error) {
	if !c.takes(b) {
		return nil
	}
	temp := cacheTempPrefix + rand.Text()
	f, err := c.dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	key := cacheKey(b)
	err = encodeCached(ctx, f, c.limit, key, l)
	if err = errors.Join(err, f.Close()); err == nil {
		err = c.dir.Rename(temp, cacheName(key))
	}
	if err != nil {
		return errors.Join(err, c.dir.Remove(temp))
	}
	c.grown.Store(true)
	return nil
}

// cacheFile is a file of the cache as evict sees it.
type cacheFile struct {
	name string
	used time.Time
	size int64
}

// evict removes the files that were not used for longest until the others are within
// the limit, and what dead processes left. Files of other names are left alone. What
// cannot be removed stays: that is for the next to try.
func (c *Cache) evict() {
	if c == nil || !c.grown.Swap(false) {
		return
	}
	files, total := c.files(time.Now().Add(-cacheTempAge))
	slices.SortFunc(files, func(a, b cacheFile) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.name, b.name)) })
	for _, f := range files {
		if total <= c.limit {
			return
		}
		// What another process removed is gone as well.
		if err := c.dir.Remove(f.name); err == nil || errors.Is(err, fs.ErrNotExist) {
			total -= f.size
		}
	}
}

// files lists the indexes and what they take, and removes temporary files from
// before the given time.
func (c *Cache) files(before time.Time) (files []cacheFile, total int64) {
	entries, err := fs.ReadDir(c.dir.FS(), ".")
	if err != nil {
		return nil, 0
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		switch name := e.Name(); {
		case strings.HasPrefix(name, cacheTempPrefix):
			if fi.ModTime().Before(before) {
				_ = c.dir.Remove(name)
			}
		case strings.HasSuffix(name, cacheSuffix):
			f := cacheFile{name, fi.ModTime(), max(fi.Size(), cacheBlock)}
			files, total = append(files, f), total+f.size
		}
	}
	return files, total
}
