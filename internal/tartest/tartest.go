// Package tartest makes layers out of a short notation, for tests.
//
// Layers are separated by "|", bottom first, their entries by blanks:
//
//	d/        directory          f=v      file with the content v
//	f         file, content "f"  b⇒a      hardlink b to a
//	l→t       symlink l to t     p!c1,2   character device 1:2
//	✗d/p      whiteout of d/p    d◊       opaque whiteout of d
//	p!p       fifo               ◊        opaque whiteout of the root
//
// Attributes follow in parentheses: (0700), (0700,u1,g2,t5): mode, uid, gid,
// modification time; extended attributes in braces: {user.k=v}. Without them a
// directory is 0755, all else 0644, owned by 0:0, of the time 1.
package tartest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is a header with its content.
type Entry struct {
	tar.Header
	Body string
}

// Parse reads layers in the notation of the package. It panics on a text that is
// none: fixtures are written by hand.
func Parse(text string) [][]Entry {
	var layers [][]Entry
	for l := range strings.SplitSeq(text, "|") {
		entries := []Entry{}
		for token := range strings.FieldsSeq(l) {
			entries = append(entries, parse(token))
		}
		layers = append(layers, entries)
	}
	return layers
}

func parse(token string) Entry {
	e := Entry{Header: tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1, 0)}}
	rest, attrs := cutAttrs(token)
	for strings.HasSuffix(rest, "}") {
		i := strings.LastIndexByte(rest, '{')
		k, v, _ := strings.Cut(rest[i+1:len(rest)-1], "=")
		if e.PAXRecords == nil {
			e.PAXRecords = map[string]string{}
		}
		e.PAXRecords["SCHILY.xattr."+k] = v
		rest = rest[:i]
	}
	e.setShape(rest)
	for a := range strings.SplitSeq(attrs, ",") {
		e.setAttr(a)
	}
	return e
}

// cutAttrs takes the part in parentheses out of a token.
func cutAttrs(token string) (rest, inner string) {
	i, j := strings.IndexByte(token, '('), strings.LastIndexByte(token, ')')
	if i < 0 || j < i {
		return token, ""
	}
	return token[:i] + token[j+1:], token[i+1 : j]
}

func (e *Entry) setShape(s string) {
	switch {
	case strings.HasPrefix(s, "✗"):
		dir, base := path.Split(strings.TrimPrefix(s, "✗"))
		e.Name = dir + ".wh." + base
	case strings.HasSuffix(s, "◊"):
		e.Name = path.Join(strings.TrimSuffix(s, "◊"), ".wh..wh..opq")
	case strings.Contains(s, "⇒"):
		e.Typeflag = tar.TypeLink
		e.Name, e.Linkname, _ = strings.Cut(s, "⇒")
	case strings.Contains(s, "→"):
		e.Typeflag = tar.TypeSymlink
		e.Name, e.Linkname, _ = strings.Cut(s, "→")
	case strings.Contains(s, "!"):
		name, dev, _ := strings.Cut(s, "!")
		e.Name = name
		e.setDevice(dev)
	case strings.HasSuffix(s, "/"):
		e.Typeflag, e.Mode, e.Name = tar.TypeDir, 0o755, s
	default:
		var hasBody bool
		if e.Name, e.Body, hasBody = strings.Cut(s, "="); !hasBody {
			e.Body = path.Base(s)
		}
		e.Size = int64(len(e.Body))
	}
}

func (e *Entry) setDevice(dev string) {
	if dev == "p" {
		e.Typeflag = tar.TypeFifo
		return
	}
	e.Typeflag = tar.TypeChar
	if dev[0] == 'b' {
		e.Typeflag = tar.TypeBlock
	}
	if _, err := fmt.Sscanf(dev[1:], "%d,%d", &e.Devmajor, &e.Devminor); err != nil {
		panic(fmt.Sprintf("tartest: device %q: %v", dev, err))
	}
}

func (e *Entry) setAttr(a string) {
	if a == "" {
		return
	}
	base, digits := 10, a[1:]
	if a[0] == '0' {
		base, digits = 8, a
	}
	n, err := strconv.ParseInt(digits, base, 64)
	if err != nil {
		panic(fmt.Sprintf("tartest: attribute %q: %v", a, err))
	}
	switch a[0] {
	case '0':
		e.Mode = n
	case 'u':
		e.Uid = int(n)
	case 'g':
		e.Gid = int(n)
	case 't':
		e.ModTime = time.Unix(n, 0)
	}
}

// Tar returns the entries as a tar.
func Tar(entries ...Entry) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := tw.WriteHeader(&e.Header); err != nil {
			panic(fmt.Sprintf("tartest: header %q: %v", e.Name, err))
		}
		if _, err := tw.Write([]byte(e.Body)); err != nil {
			panic(fmt.Sprintf("tartest: body of %q: %v", e.Name, err))
		}
	}
	if err := tw.Close(); err != nil {
		panic(fmt.Sprintf("tartest: %v", err))
	}
	return buf.Bytes()
}

// Tars returns the layers of a notation as tars.
func Tars(text string) [][]byte {
	var tars [][]byte
	for _, l := range Parse(text) {
		tars = append(tars, Tar(l...))
	}
	return tars
}

// Listing writes the entries of a tar in the notation, in their order, attributes
// only where they are not the default.
func Listing(tarball []byte) (string, error) {
	var out []string
	tr := tar.NewReader(bytes.NewReader(tarball))
	for {
		h, err := tr.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return strings.Join(out, " "), err
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(tr); err != nil {
			return strings.Join(out, " "), err
		}
		out = append(out, format(h, body.String()))
	}
}

func format(h *tar.Header, body string) string {
	dir, base := path.Split(h.Name)
	switch {
	case base == ".wh..wh..opq":
		return strings.TrimSuffix(dir, "/") + "◊"
	case strings.HasPrefix(base, ".wh."):
		return "✗" + dir + base[len(".wh."):]
	}
	return shape(h, body) + attributes(h)
}

func shape(h *tar.Header, body string) string {
	switch h.Typeflag {
	case tar.TypeDir:
		return h.Name
	case tar.TypeSymlink:
		return h.Name + "→" + h.Linkname
	case tar.TypeLink:
		return h.Name + "⇒" + h.Linkname
	case tar.TypeFifo:
		return h.Name + "!p"
	case tar.TypeChar:
		return fmt.Sprintf("%s!c%d,%d", h.Name, h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		return fmt.Sprintf("%s!b%d,%d", h.Name, h.Devmajor, h.Devminor)
	}
	if body == path.Base(h.Name) {
		return h.Name
	}
	return h.Name + "=" + body
}

func attributes(h *tar.Header) string {
	var attrs []string
	usual := int64(0o644)
	if h.Typeflag == tar.TypeDir {
		usual = 0o755
	}
	if h.Mode != usual {
		attrs = append(attrs, fmt.Sprintf("%#o", h.Mode))
	}
	if h.Uid != 0 {
		attrs = append(attrs, fmt.Sprintf("u%d", h.Uid))
	}
	if h.Gid != 0 {
		attrs = append(attrs, fmt.Sprintf("g%d", h.Gid))
	}
	if t := h.ModTime.Unix(); t != 1 && !(t == 0 && h.Typeflag == tar.TypeDir) {
		attrs = append(attrs, fmt.Sprintf("t%d", t))
	}
	s := ""
	if len(attrs) > 0 {
		s = "(" + strings.Join(attrs, ",") + ")"
	}
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			s += "{" + name + "=" + h.PAXRecords[k] + "}"
		}
	}
	return s
}
