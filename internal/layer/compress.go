package layer

import (
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// The encoders' parallelism is bounded by what a worker was measured to take,
// about 5 MB for gzip and 40 MB for a zstd frame, so that both stay within about
// 80 MB on any machine.
const (
	maxGzipWorkers = 16
	maxZstdWorkers = 2
	// gzipBlock is what one worker compresses at a time; each block is primed
	// with the end of the one before, so the bytes do not depend on the workers.
	gzipBlock = 1 << 20
	// zstdFrame is the input of one independent frame.
	zstdFrame = 8 << 20
)

// Default levels: where more effort stops to pay.
const (
	DefaultGzipLevel = 6
	DefaultZstdLevel = 3
)

// newCompressor returns a writer that compresses into w. Closing it flushes it
// but does not close w.
func newCompressor(w io.Writer, o WriteOptions) (io.WriteCloser, error) {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	switch o.Compression {
	case None, "":
		return nopCloser{w}, nil
	case Gzip:
		return newGzip(w, o.Level, min(workers, maxGzipWorkers))
	case Zstd:
		return newZstd(w, o.Level, min(workers, maxZstdWorkers))
	}
	return nil, fmt.Errorf("[internal error] unknown compression %q", o.Compression)
}

func newGzip(w io.Writer, level, workers int) (io.WriteCloser, error) {
	if level == 0 {
		level = DefaultGzipLevel
	}
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return z, z.SetConcurrency(gzipBlock, workers)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// zstdWriter compresses frames of a fixed length in parallel and writes them in
// order: concatenated frames are one zstd stream (RFC 8878, section 3).
type zstdWriter struct {
	w     io.Writer
	enc   *zstd.Encoder
	frame []byte
	// pending are the frames being compressed, the oldest first; free are their
	// buffers, for use again.
	pending []chan []byte
	free    [][]byte
	workers int
	wrote   bool
}

func newZstd(w io.Writer, level, workers int) (io.WriteCloser, error) {
	if level == 0 {
		level = DefaultZstdLevel
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(workers),
		zstd.WithWindowSize(zstdFrame), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &zstdWriter{w: w, enc: enc, workers: workers, frame: make([]byte, 0, zstdFrame)}, nil
}

func (z *zstdWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), cap(z.frame)-len(z.frame))
		z.frame = append(z.frame, p[:n]...)
		p = p[n:]
		if len(z.frame) == cap(z.frame) {
			if err := z.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

// flush hands the frame to a worker and waits for the oldest if all are busy.
func (z *zstdWriter) flush() error {
	done, src := make(chan []byte, 1), z.frame
	go func() { done <- z.enc.EncodeAll(src, nil) }()
	z.pending = append(z.pending, done)
	z.free = append(z.free, src)
	if len(z.pending) <= z.workers {
		z.frame = make([]byte, 0, zstdFrame)
		return nil
	}
	err := z.drain()
	z.frame = z.free[0][:0]
	z.free = z.free[1:]
	return err
}

// drain writes the oldest frame once it is compressed.
func (z *zstdWriter) drain() error {
	b := <-z.pending[0]
	z.pending = z.pending[1:]
	z.wrote = true
	_, err := z.w.Write(b)
	return err
}

func (z *zstdWriter) Close() error {
	var err error
	if len(z.frame) > 0 || !z.wrote && len(z.pending) == 0 {
		err = z.flush()
	}
	for len(z.pending) > 0 {
		if e := z.drain(); err == nil {
			err = e
		}
	}
	if e := z.enc.Close(); err == nil {
		err = e
	}
	return err
}
