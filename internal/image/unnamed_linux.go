package image

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openUnnamed makes a file without a name; the name that it carries is for
// messages.
func openUnnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, "slim-spool-unnamed")), nil
}
