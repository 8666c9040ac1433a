package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"slim/internal/flatten"
)

// tarOf writes one entry with archive/tar.
func tarOf(t *testing.T, h tar.Header, body string) []byte {
	t.Helper()
	h.Size = int64(len(body))
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(tw, body); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// edit changes bytes of the first header of a tar and mends its checksum.
func edit(b []byte, at int, field string) []byte {
	copy(b[at:], field)
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// rewritten reads a tar and returns the first header that slim writes for it.
func rewritten(t *testing.T, b []byte) (*tar.Header, string, error) {
	t.Helper()
	s, err := Read(t.Context(), []Blob{blobOf(b, b)}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	w, err := Write(t.Context(), changes(t, s).Items(), s.Body, WriteOptions{TempDir: t.TempDir()})
	if err != nil {
		return nil, "", err
	}
	defer w.Close()
	rc, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(rc)
	h, err := tr.Next()
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(tr)
	return h, string(body), err
}

// oldSparse is a GNU sparse file of 16 bytes with "data" at 4.
func oldSparse(t *testing.T) []byte {
	t.Helper()
	b := tarOf(t, tar.Header{Name: "s", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatGNU}, "data")
	copy(b[386:], "00000000004\x0000000000004\x00")
	copy(b[483:], "00000000020\x00")
	return edit(b, 156, "S")
}

// sparseHole claims 8 TiB in one header.
func sparseHole(t *testing.T) []byte {
	t.Helper()
	b := oldSparse(t)
	copy(b[386:], "00000000004\x0000000000004\x00")
	copy(b[483:], "\x80\x00\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00")
	return b
}

// TestHeaders are rows of section E: what a header must look like once written.
func TestHeaders(t *testing.T) {
	at := time.Unix(1, 123456789)
	for _, c := range []struct {
		name string
		in   []byte
		want func(h *tar.Header, body string) bool
	}{
		{"GNU sparse is written expanded", oldSparse(t), func(h *tar.Header, body string) bool {
			return h.Typeflag == tar.TypeReg && body == "\x00\x00\x00\x00data\x00\x00\x00\x00\x00\x00\x00\x00"
		}},
		{"nanoseconds stay", tarOf(t, tar.Header{Name: "f", ModTime: at, Format: tar.FormatPAX}, ""), func(h *tar.Header, _ string) bool { return h.ModTime.Equal(at) }},
		{"access and change times go", tarOf(t, tar.Header{Name: "f", ModTime: at, AccessTime: at, ChangeTime: at, Format: tar.FormatPAX}, ""), func(h *tar.Header, _ string) bool {
			return h.AccessTime.IsZero() && h.ChangeTime.IsZero()
		}},
		{"user and group names go", tarOf(t, tar.Header{Name: "f", Uname: "root", Gname: "wheel", Uid: 5}, ""), func(h *tar.Header, _ string) bool {
			return h.Uname == "" && h.Gname == "" && h.Uid == 5
		}},
		{"negative time", tarOf(t, tar.Header{Name: "f", ModTime: time.Unix(-5, 0), Format: tar.FormatPAX}, ""), func(h *tar.Header, _ string) bool { return h.ModTime.Unix() == -5 }},
		{"large and negative ids", tarOf(t, tar.Header{Name: "f", Uid: 3e9, Gid: -1, Format: tar.FormatPAX}, ""), func(h *tar.Header, _ string) bool { return h.Uid == 3e9 && h.Gid == -1 }},
		{"name that is not UTF-8", tarOf(t, tar.Header{Name: "a\xff\xfe", Format: tar.FormatGNU}, ""), func(h *tar.Header, _ string) bool { return h.Name == "a\xff\xfe" }},
		{"name with a newline and a glob", tarOf(t, tar.Header{Name: "a\n*", Format: tar.FormatPAX}, ""), func(h *tar.Header, _ string) bool { return h.Name == "a\n*" }},
		{"long name", tarOf(t, tar.Header{Name: strings.Repeat("d/", 300) + "f", Format: tar.FormatGNU}, ""), func(h *tar.Header, _ string) bool { return h.Name == "d/" }},
		{"V7 directory by its slash", edit(tarOf(t, tar.Header{Name: "d//", Typeflag: tar.TypeDir}, ""), 156, "\x00"), func(h *tar.Header, _ string) bool {
			return h.Typeflag == tar.TypeDir && h.Name == "d/"
		}},
		{"contiguous file", edit(tarOf(t, tar.Header{Name: "f"}, "x"), 156, "7"), func(h *tar.Header, body string) bool { return h.Typeflag == tar.TypeReg && body == "x" }},
		{"setuid, setgid, sticky", tarOf(t, tar.Header{Name: "f", Mode: 0o7755}, ""), func(h *tar.Header, _ string) bool { return h.Mode == 0o7755 }},
		{"symlink target stays as it is", tarOf(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "..//../c:x/..foo/./"}, ""), func(h *tar.Header, _ string) bool {
			return h.Linkname == "..//../c:x/..foo/./"
		}},
		{"file named like a drive", tarOf(t, tar.Header{Name: "c:x"}, ""), func(h *tar.Header, _ string) bool { return h.Name == "c:x" }},
		{"device", tarOf(t, tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""), func(h *tar.Header, _ string) bool {
			return h.Typeflag == tar.TypeChar && h.Devmajor == 1 && h.Devminor == 3
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, body, err := rewritten(t, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(h, body) {
				t.Errorf("wrote %+v with %q", h, body)
			}
		})
	}
}

// TestRecords are the PAX records that are carried through.
func TestRecords(t *testing.T) {
	records := map[string]string{
		"SCHILY.xattr.user.nul": "a\x00b", "SCHILY.xattr.user.newline": "a\nb", "SCHILY.xattr.user.equal": "a=b",
		"SCHILY.xattr.user.empty": "", "LIBARCHIVE.xattr.user.k": "dg==", "comment": "text",
	}
	in := map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
	for k, v := range records {
		in[k] = v
	}
	h, _, err := rewritten(t, tarOf(t, tar.Header{Name: "f", PAXRecords: in, Format: tar.FormatPAX}, ""))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.PAXRecords) != len(records) {
		t.Errorf("got records %q, want %q", h.PAXRecords, records)
	}
	for k, v := range records {
		if got, ok := h.PAXRecords[k]; !ok || got != v {
			t.Errorf("record %s: got %q, want %q", k, got, v)
		}
	}
}

// TestGlobalHeader is dropped: it is no file, and Go does not apply it.
func TestGlobalHeader(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "commit"}},
		{Typeflag: tar.TypeReg, Name: "f"},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	h, _, err := rewritten(t, buf.Bytes())
	if err != nil || h.Name != "f" || len(h.PAXRecords) > 0 {
		t.Errorf("got %+v, %v, want the file alone", h, err)
	}
}

func TestHeaderErrors(t *testing.T) {
	deep := strings.Repeat("d/", flatten.MaxDepth) + "f"
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"unknown type", edit(tarOf(t, tar.Header{Name: "f"}, ""), 156, "Z"), `reading "f": entry of the unknown type 'Z'`},
		{"GNU multi-volume", edit(tarOf(t, tar.Header{Name: "f", Format: tar.FormatGNU}, ""), 156, "M"), "unknown type 'M'"},
		{"device number that PAX cannot hold", tarOf(t, tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1 << 22, Format: tar.FormatGNU}, ""), "device number 4194304:0 is out of range"},
		{"size of 2^62", edit(tarOf(t, tar.Header{Name: "f", Format: tar.FormatGNU}, ""), 124, "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"), `reading "f": unexpected EOF`},
		{"sparse file that is all hole", edit(sparseHole(t), 156, "S"), `reading "s": sparse files with holes of more than 4 GiB`},
		{"long component", tarOf(t, tar.Header{Name: strings.Repeat("n", 256), Format: tar.FormatPAX}, ""), "name of 256 bytes is longer than 255"},
		{"long path", tarOf(t, tar.Header{Name: strings.Repeat(strings.Repeat("n", 200)+"/", 21) + "f", Format: tar.FormatPAX}, ""), "path of 4222 bytes is longer than 4096"},
		{"deep path", tarOf(t, tar.Header{Name: deep, Format: tar.FormatPAX}, ""), "deeper than 1024"},
		{"symlink without a target", tarOf(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink}, ""), "symlink without a target"},
		{"symlink target too long", tarOf(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("a", 4096), Format: tar.FormatPAX}, ""), "symlink target of 4096 bytes"},
		{"name out of the root", tarOf(t, tar.Header{Name: "a/../../b"}, ""), "name leads out of the root"},
		{"absolute name out of the root", tarOf(t, tar.Header{Name: "/../b"}, ""), "name leads out of the root"},
		{"hardlink out of the root", tarOf(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../x"}, ""), `hardlink target "../x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := rewritten(t, c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestRecordLimit bounds what attributes may take.
func TestRecordLimit(t *testing.T) {
	a := newAttrs()
	value := strings.Repeat("v", 1<<20)
	for i := range MaxRecordBytes >> 20 {
		_, _, err := a.intern(&flatten.Attr{UID: int64(i), Records: []flatten.Record{{Key: "k", Value: value}}})
		if err != nil {
			if i < MaxRecordBytes>>20-1 {
				t.Errorf("refused after %d MiB: %v", i, err)
			}
			return
		}
	}
	t.Errorf("more than %d bytes were taken", MaxRecordBytes)
}
