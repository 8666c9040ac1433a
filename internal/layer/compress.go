package layer

import (
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// The encoders' parallelism is bounded by what a worker was measured to take, about
// 5 MB for gzip, so that it stays within about 80 MB on any machine. See
// docs/decisions/compression.md for the figures.
const (
	maxGzipWorkers = 16
	// gzipBlock is what one worker compresses at a time; each block is primed
	// with the end of the one before, so the bytes do not depend on the workers.
	gzipBlock = 1 << 20
	// zstdWorkers find matches and code them, a block apart.
	zstdWorkers = 2
	// zstdWindow is how far back matches go: what every engine's decoder takes.
	zstdWindow = 8 << 20
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
		return newZstd(w, o.Level, min(workers, zstdWorkers))
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

// newZstd returns the encoder of one stream: smaller than independent frames.
func newZstd(w io.Writer, level, workers int) (io.WriteCloser, error) {
	if level == 0 {
		level = DefaultZstdLevel
	}
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(workers), zstd.WithWindowSize(zstdWindow))
}
