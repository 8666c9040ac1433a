package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
)

// spoolBuffer is large enough for few system calls, small enough for many layers
// at once.
const spoolBuffer = 256 << 10

// TempFile makes a file in dir that has no name, so that nothing is left of it
// however the process ends. Where the system cannot do that, its name is removed
// at once.
func TempFile(dir string) (*os.File, error) {
	if f, err := openUnnamed(dir); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, "slim-spool-*")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlinking a temporary file: %w", err)
	}
	return f, nil
}

// spoolInMemory is how much of a spool stays in memory: most layers are small, and
// a file for each would cost more than they hold.
const spoolInMemory = 32 << 10

// spool holds bytes that are written once, from its start, and then read at any
// place: a few in memory, more in a temporary file.
type spool struct {
	dir   string
	small []byte
	file  *os.File
	w     *bufio.Writer
	size  int64
}

func newSpool(dir string) *spool { return &spool{dir: dir} }

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil {
		if len(s.small)+len(p) <= spoolInMemory {
			s.small = append(s.small, p...)
			s.size += int64(len(p))
			return len(p), nil
		}
		if err := s.toFile(); err != nil {
			return 0, err
		}
	}
	n, err := s.w.Write(p)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("writing a temporary file: %w", err)
	}
	return n, err
}

// toFile moves what is in memory to a file.
func (s *spool) toFile() (err error) {
	if s.file, err = TempFile(s.dir); err != nil {
		return err
	}
	s.w = bufio.NewWriterSize(s.file, spoolBuffer)
	_, err = s.w.Write(s.small)
	s.small = nil
	return err
}

// finish flushes the buffer and lets go of it.
func (s *spool) finish() error {
	if s.file == nil {
		return nil
	}
	err := s.w.Flush()
	s.w = nil
	if err != nil {
		return fmt.Errorf("writing a temporary file: %w", err)
	}
	return nil
}

// section reads n bytes from an offset.
func (s *spool) section(off, n int64) *io.SectionReader {
	if s.file == nil {
		return io.NewSectionReader(bytes.NewReader(s.small), off, n)
	}
	return io.NewSectionReader(s.file, off, n)
}

func (s *spool) close() {
	if s != nil && s.file != nil {
		s.file.Close()
	}
}
