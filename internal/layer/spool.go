package layer

import (
	"bufio"
	"fmt"
	"os"
)

// spoolBuffer is large enough for few system calls, small enough for many layers
// at once.
const spoolBuffer = 256 << 10

// TempFile makes a file in dir that has no name any more, so that nothing is left
// of it however the process ends.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".slim-spool-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlinking a temporary file: %w", err)
	}
	return f, nil
}

// spool is a file that is written once, from its start.
type spool struct {
	file *os.File
	w    *bufio.Writer
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := TempFile(dir)
	if err != nil {
		return nil, err
	}
	return &spool{file: f, w: bufio.NewWriterSize(f, spoolBuffer)}, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("writing a temporary file: %w", err)
	}
	return n, err
}

// finish flushes the buffer and lets go of it.
func (s *spool) finish() error {
	err := s.w.Flush()
	s.w = nil
	if err != nil {
		return fmt.Errorf("writing a temporary file: %w", err)
	}
	return nil
}

func (s *spool) close() {
	if s != nil {
		s.file.Close()
	}
}
