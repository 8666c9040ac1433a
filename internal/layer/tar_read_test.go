package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"slim/internal/tartest"
)

// listTar reads a tar as far as some bytes of each content and describes every entry,
// the end, and what follows it.
func listTar(most int64, next func() (*tar.Header, io.Reader, error), rest io.Reader) string {
	var b strings.Builder
	for {
		h, content, err := next()
		if err != nil {
			fmt.Fprintln(&b, err)
			break
		}
		fmt.Fprintf(&b, "%q %q %q %o %d:%d %d %v %d,%d %q", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UTC(), h.Devmajor, h.Devminor, fmt.Sprint(h.PAXRecords))
		n, err := io.Copy(&b, io.LimitReader(content, most))
		fmt.Fprintln(&b, " ", n, err)
	}
	n, err := io.Copy(io.Discard, rest)
	fmt.Fprintln(&b, n, err)
	return b.String()
}

// compareTar has a tar read by tarReader and by archive/tar.
func compareTar(t *testing.T, data []byte, most int64) (plain int) {
	t.Helper()
	theirs := bufio.NewReader(bytes.NewReader(data))
	tr := tar.NewReader(theirs)
	want := listTar(most, func() (*tar.Header, io.Reader, error) {
		h, err := tr.Next()
		return h, tr, err
	}, theirs)
	ours := bufio.NewReader(bytes.NewReader(data))
	r := newTarReader(ours)
	got := listTar(most, func() (*tar.Header, io.Reader, error) {
		h, content, err := r.next()
		if h == &r.header {
			plain++
		}
		return h, content, err
	}, ours)
	if got != want {
		t.Errorf("%q:\n%s\nwant\n%s", data, got, want)
	}
	return plain
}

// TestTarReader reads every kind of header, whole and cut off at every byte, as
// archive/tar does.
func TestTarReader(t *testing.T) {
	long := strings.Repeat("d", 90) + "/" + strings.Repeat("n", 90)
	plain := tartest.Tars("a=hello d/ d/b=" + strings.Repeat("x", 512) + " l→a h⇒a e= " + long + "=y z")[0]
	other := tartest.Tars("é=x a{user.k=v}=y c!c1,2 p!p " + long + long + " b(0644,u3000000000)=z l→" + long + " z=last")[0]
	if n := compareTar(t, plain, 1<<20); n != 8 {
		t.Errorf("%d headers were plain, want 8", n)
	}
	for _, data := range [][]byte{plain, other, gnuTar(t)} {
		for cut := 0; cut <= len(data); cut += 1 + cut%3*100 {
			compareTar(t, data[:cut], 1<<20)
			compareTar(t, data[:cut], 3)
		}
	}
}

// gnuTar is a tar with headers of GNU tar between plain ones, and with data after its
// end.
func gnuTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "plain", Typeflag: tar.TypeReg, Size: 3, Format: tar.FormatUSTAR},
		{Name: "gnu", Typeflag: tar.TypeReg, Size: 3, Format: tar.FormatGNU},
		{Name: strings.Repeat("g", 200), Typeflag: tar.TypeReg, Size: 3, Format: tar.FormatGNU},
		{Name: "large", Typeflag: tar.TypeReg, Size: 3, Uid: 1 << 40, Format: tar.FormatGNU},
		{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}},
		{Name: "folder/", Typeflag: tar.TypeDir, Format: tar.FormatUSTAR},
		{Name: "contiguous", Typeflag: tar.TypeCont, Size: 3, Format: tar.FormatUSTAR},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteString("after the end")
	return b.Bytes()
}

// FuzzTarReader reads tars whose headers have bytes exchanged: as archive/tar does,
// with the checksum mended and without.
func FuzzTarReader(f *testing.F) {
	whole := tartest.Tars("a=hello d/ l→a z=last")[0]
	for _, at := range []uint16{0, 99, 100, 107, 124, 135, 136, 148, 154, 155, 156, 157, 257, 262, 263, 264, 329, 345, 499, 500, 508, 512, 1024, 1536 + 156, 2048 + 156} {
		for _, c := range []byte{0, ' ', '0', '1', '7', '8', '/', 'x', 'S', 'g', 'L', 0x80, 0xff} {
			f.Add(at, c, at+1, c, true)
		}
	}
	f.Fuzz(func(t *testing.T, at uint16, c byte, at2 uint16, c2 byte, mend bool) {
		data := bytes.Clone(whole)
		for i, p := range []uint16{at, at2} {
			place := int(p) % len(data)
			data[place] = []byte{c, c2}[i]
			if header := data[place&^511:][:512]; mend {
				copy(header[148:], fmt.Sprintf("%06o\x00 ", checksum(header)))
			}
		}
		compareTar(t, data, 1<<20)
		compareTar(t, data, 2)
	})
}

func checksum(header []byte) (sum int) {
	for i, c := range header {
		if 148 <= i && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	return sum
}
