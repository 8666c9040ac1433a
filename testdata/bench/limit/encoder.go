package main

import (
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"slim/internal/layer"
)

// Blocks and the bounds of workers are those of internal/layer; zstd frames are the fastest way to use two cores.
const (
	maxGzipWorkers = 16
	maxZstdWorkers = 2
	gzipBlock      = 1 << 20
	zstdFrame      = 8 << 20
)

// newEncoder returns a writer that compresses into w as slim does.
func newEncoder(w io.Writer, o options) (io.WriteCloser, error) {
	workers := runtime.GOMAXPROCS(0)
	if o.compression == string(layer.Zstd) {
		return newFrames(w, o.level, min(workers, maxZstdWorkers))
	}
	level := o.level
	if level == 0 {
		level = layer.DefaultGzipLevel
	}
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return z, z.SetConcurrency(gzipBlock, min(workers, maxGzipWorkers))
}

// frames compresses independent zstd frames beside each other and writes them in
// order.
type frames struct {
	enc   *zstd.Encoder
	frame []byte
	// queue has the frames that are being compressed; done ends with the last.
	queue chan chan []byte
	done  chan error
}

func newFrames(w io.Writer, level, workers int) (io.WriteCloser, error) {
	if level == 0 {
		level = layer.DefaultZstdLevel
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(workers),
		zstd.WithWindowSize(zstdFrame), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	f := &frames{enc: enc, queue: make(chan chan []byte, workers), done: make(chan error, 1)}
	go func() {
		var err error
		for encoded := range f.queue {
			b := <-encoded
			if err == nil {
				_, err = w.Write(b)
			}
		}
		f.done <- err
	}()
	return f, nil
}

func (f *frames) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), zstdFrame-len(f.frame))
		f.frame = append(f.frame, p[:n]...)
		p = p[n:]
		if len(f.frame) == zstdFrame {
			f.flush()
		}
	}
	return total, nil
}

// flush hands the frame to a worker, and waits while all are busy.
func (f *frames) flush() {
	encoded, src := make(chan []byte, 1), f.frame
	go func() { encoded <- f.enc.EncodeAll(src, nil) }()
	f.queue <- encoded
	f.frame = make([]byte, 0, zstdFrame)
}

func (f *frames) Close() error {
	if len(f.frame) > 0 {
		f.flush()
	}
	close(f.queue)
	return <-f.done
}
