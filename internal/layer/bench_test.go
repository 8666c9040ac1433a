package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"go/build"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"slim/internal/tartest"
)

// corpusSize bounds what the benchmarks compress.
const corpusSize = 128 << 20

// corpus is what real images hold: the file that CORPUS names, an uncompressed layer
// say, or else the sources and the programs of the Go installation, half of each.
func corpus(b *testing.B) []byte {
	b.Helper()
	if name := os.Getenv("CORPUS"); name != "" {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, corpusSize))
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	root := build.Default.GOROOT
	var data []byte
	for i, dir := range []string{"bin", "src"} {
		most := (i + 1) * corpusSize / 4
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || len(data) >= most {
				return err
			}
			content, err := os.ReadFile(path)
			data = append(data, content...)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		data = data[:min(len(data), most)]
	}
	return data
}

// benchmarkWriter compresses the corpus in steps as the tar writer takes and tells which
// part of it is left.
func benchmarkWriter(b *testing.B, data []byte, open func(io.Writer) (io.WriteCloser, error)) {
	b.Helper()
	var stored countWriter
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		stored = 0
		w, err := open(&stored)
		if err != nil {
			b.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 64<<10)
			if _, err := w.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(stored)/float64(len(data)), "%stored")
}

// BenchmarkCompress compares levels on one core and on all.
func BenchmarkCompress(b *testing.B) {
	data := corpus(b)
	for _, c := range []struct {
		Compression
		levels []int
	}{{Gzip, []int{1, 3, 4, 5, 6, 7, 9}}, {Zstd, []int{1, 3, 7, 11}}} {
		for _, level := range c.levels {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s-%d/workers=%d", c.Compression, level, workers), func(b *testing.B) {
					benchmarkWriter(b, data, func(w io.Writer) (io.WriteCloser, error) {
						return newCompressor(w, WriteOptions{Compression: c.Compression, Level: level, Workers: workers})
					})
				})
			}
		}
	}
}

// BenchmarkGzipBlock compares what one worker compresses at a time.
func BenchmarkGzipBlock(b *testing.B) {
	data := corpus(b)
	for _, block := range []int{128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dk", block>>10), func(b *testing.B) {
			benchmarkWriter(b, data, func(w io.Writer) (io.WriteCloser, error) {
				z, err := pgzip.NewWriterLevel(w, DefaultGzipLevel)
				if err != nil {
					return nil, err
				}
				return z, z.SetConcurrency(block, 2)
			})
		})
	}
}

// BenchmarkZstdConcurrency compares how the encoder of a stream uses two cores.
func BenchmarkZstdConcurrency(b *testing.B) {
	data := corpus(b)
	level := zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(DefaultZstdLevel))
	for _, c := range []struct {
		name string
		opts []zstd.EOption
	}{
		{"one", []zstd.EOption{zstd.WithEncoderConcurrency(1)}},
		{"stream", []zstd.EOption{zstd.WithEncoderConcurrency(2)}},
		{"blocks", []zstd.EOption{zstd.WithEncoderConcurrency(2), zstd.WithConcurrentBlocks(true)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchmarkWriter(b, data, func(w io.Writer) (io.WriteCloser, error) {
				return zstd.NewWriter(w, append(c.opts, level, zstd.WithWindowSize(zstdWindow))...)
			})
		})
	}
}

// benchFiles is a layer of files of 100 bytes, as archives of sources have.
func benchFiles(n int) []byte {
	var all strings.Builder
	for i := range n {
		if i%50 == 0 {
			fmt.Fprintf(&all, "srv/folder-%05d/ ", i/50)
		}
		fmt.Fprintf(&all, "srv/folder-%05d/file-%02d.txt=%s ", i/50, i%50, strings.Repeat("x", 100))
	}
	return tartest.Tars(all.String())[0]
}

// BenchmarkScan reads a layer of 50,000 small files into index and spool.
func BenchmarkScan(b *testing.B) {
	plain := benchFiles(50_000)
	blobs := []Blob{blobOf(plain, plain)}
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := Read(b.Context(), blobs, ReadOptions{TempDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkWrite writes the same layer, without compression.
func BenchmarkWrite(b *testing.B) {
	plain := benchFiles(50_000)
	s, err := Read(b.Context(), []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c := changes(b, s)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		w, err := Write(b.Context(), c.Items(), s.Bodies(), WriteOptions{TempDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		w.Close()
	}
}

// BenchmarkInflate inflates the corpus, which is what reading a layer takes most of.
func BenchmarkInflate(b *testing.B) {
	data := corpus(b)
	for _, c := range []Compression{Gzip, Zstd} {
		b.Run(string(c), func(b *testing.B) {
			var stored bytes.Buffer
			w, err := newCompressor(&stored, WriteOptions{Compression: c})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := inflate(bufio.NewReaderSize(bytes.NewReader(stored.Bytes()), 128<<10), c, false)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
