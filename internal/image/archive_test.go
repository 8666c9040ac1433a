package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestArchiveFind(t *testing.T) {
	data := tarOf(
		tarFile("plain", "one"),
		tarFile("./dotted//name", "two"),
		tarFile("twice", "old"),
		tarLink(tar.TypeLink, "hardlink-to-old", "twice"),
		tarFile("twice", "new"),
		tarFile("id/layer.tar", "layer"),
		tarLink(tar.TypeSymlink, "other/layer.tar", "../id/layer.tar"),
		tarLink(tar.TypeSymlink, "chain", "other/layer.tar"),
		tarLink(tar.TypeLink, "hardlink-to-link", "chain"),
		tarLink(tar.TypeSymlink, "up", "../../etc/passwd"),
		tarLink(tar.TypeSymlink, "absolute", "/etc/passwd"),
		tarLink(tar.TypeSymlink, "loop", "loop"),
		tarLink(tar.TypeSymlink, "dangling", "nothing"),
		tarLink(tar.TypeLink, "early", "late"),
		tarFile("late", "late"),
		tarLink(tar.TypeFifo, "pipe", ""),
		tarLink(tar.TypeDir, "dir/", ""),
		tarFile("../outside", "hostile"),
		tarFile("/rooted", "hostile"),
	)
	a, err := openArchive(t.Context(), save(t, data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, tc := range []struct{ name, file, want, err string }{
		{"file", "plain", "one", ""},
		{"unclean names", "dotted/name", "two", ""},
		{"unclean lookup", "./dotted/../plain", "one", ""},
		{"last duplicate", "twice", "new", ""},
		{"hard link binds when read", "hardlink-to-old", "old", ""},
		{"symlink", "other/layer.tar", "layer", ""},
		{"chain", "chain", "layer", ""},
		{"hard link to symlink", "hardlink-to-link", "layer", ""},
		{"symlink out", "up", "", "leads out of the archive"},
		{"absolute symlink", "absolute", "", "leads out of the archive"},
		{"loop", "loop", "", "more than 40 links"},
		{"dangling", "dangling", "", "file does not exist"},
		{"hard link before its target", "early", "", "which is not before it"},
		{"pipe", "pipe", "", "not a regular file"},
		{"directory", "dir", "", "not a regular file"},
		{"name out", "../outside", "", "leads out of the archive"},
		{"absolute name", "/rooted", "", "leads out of the archive"},
		{"no name", "", "", "leads out of the archive"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := a.read(tc.file, 100)
			if tc.err != "" {
				wantError(t, err, tc.err, false)
				return
			}
			if err != nil || string(got) != tc.want {
				t.Errorf("read %q, %v; want %q", got, err, tc.want)
			}
		})
	}
	if _, err := a.read("plain", 2); err == nil {
		t.Error("a member above the limit was read")
	}
}

// TestArchiveSparse has the header of a file with holes, whose content Go
// reads expanded while the archive stores it without them.
func TestArchiveSparse(t *testing.T) {
	data := tarOf(tarFile("sparse", strings.Repeat("x", 512)))
	data[156] = tar.TypeGNUSparse
	copy(data[257:], "ustar  \x00")
	copy(data[386:], "00000000000\x0000000001000\x00")
	copy(data[483:], "00000001000\x00")
	sum := 0
	copy(data[148:156], "        ")
	for _, b := range data[:512] {
		sum += int(b)
	}
	copy(data[148:], []byte{'0', byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	a, err := openArchive(t.Context(), save(t, data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.open("sparse")
	wantError(t, err, "stored as a sparse file", false)
}

func TestArchiveCompression(t *testing.T) {
	plain := tarOf(tarFile("a", strings.Repeat("content ", 10_000)))
	half := len(plain) / 2
	for _, tc := range []struct {
		name, err string
		data      []byte
	}{
		{"plain", "", plain},
		{"gzip", "", gzipped(plain)},
		{"gzip of several members", "", slices.Concat(gzipped(plain[:half]), gzipped(plain[half:]))},
		{"gzip with zero padding", "", slices.Concat(gzipped(plain), make([]byte, 700))},
		{"gzip with garbage", "invalid header", slices.Concat(gzipped(plain), []byte("garbage, and not a little"))},
		{"zstd", "", zstdCompressed(plain)},
		{"zstd of several frames", "", slices.Concat(zstdCompressed(plain[:half]), zstdCompressed(plain[half:]))},
		{"zstd after a skippable frame", "", slices.Concat([]byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab"), zstdCompressed(plain))},
		{"without trailer", "", plain[:len(plain)-1024]},
		{"truncated", "cut off", plain[:half]},
		{"truncated gzip", "cut off", gzipped(plain)[:100]},
		{"truncated zstd", "cut off", zstdCompressed(plain)[:30]},
		{"xz", "decompress it first", []byte("\xfd7zXZ\x00 and so on")},
		{"bzip2", "decompress it first", []byte("BZh91AY&SY")},
		{"no tar", "not a tar archive", []byte(strings.Repeat("text", 1000))},
		{"empty", "it is empty", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			fromFile, err := openArchive(t.Context(), save(t, tc.data), dir)
			checkArchive(t, fromFile, err, tc.err)
			fromStream, err := spoolArchive(t.Context(), bytes.NewReader(tc.data), dir)
			checkArchive(t, fromStream, err, tc.err)
			if left := listing(t, dir); len(left) != 1 {
				t.Errorf("spools left: %q", left)
			}
		})
	}
}

// checkArchive wants an archive with one member "a", or an error whose text or
// hint contains a text.
func checkArchive(t *testing.T, a *archive, err error, want string) {
	t.Helper()
	if want != "" {
		var hint *HintError
		text := ""
		if err != nil {
			text = err.Error()
		}
		if errors.As(err, &hint) {
			text += " " + hint.Hint
		}
		if !strings.Contains(text, want) {
			t.Errorf("error %q, want one with %q", text, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	data, err := a.read("a", 1<<20)
	if err != nil || string(data) != strings.Repeat("content ", 10_000) {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
}

func TestArchiveInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	r, w := io.Pipe()
	defer w.Close()
	time.AfterFunc(time.Millisecond, func() { cancel(stop) })
	if _, err := spoolArchive(ctx, r, t.TempDir()); !errors.Is(err, stop) {
		t.Errorf("error %v from a pipe to which nobody writes, want %v", err, stop)
	}
}
