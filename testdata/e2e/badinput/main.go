// Command badinput writes images that must be refused, each with one thing
// wrong: OCI layouts as folders, docker-archives as files that end in .tar.
//
// Usage: badinput DIR
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: badinput DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "badinput: error:", err)
		os.Exit(1)
	}
}

// layer is the second layer of an image, above a good one.
type layer struct {
	blob   []byte // as stored
	digest string // what the manifest says
	size   int    // what the manifest says
	diffID string // what the config says
	absent bool   // the manifest names it, but it is not stored
}

// layouts are the images with one bad layer, by the name of their folder.
var layouts = map[string]func() layer{
	"good": func() layer { return of(file("etc/motd", "hello")) },
	"truncated": func() layer {
		l := of(file("etc/motd", string(make([]byte, 100_000))))
		cut := l.blob[:len(l.blob)/2]
		return layer{blob: cut, digest: digest(cut), size: len(cut), diffID: l.diffID}
	},
	"wrong-digest": func() layer {
		l, other := of(file("etc/motd", "hello")), of(file("etc/motd", "HELLO"))
		l.blob, l.size = other.blob, len(other.blob)
		return l
	},
	"wrong-diffid": func() layer {
		l, other := of(file("etc/motd", "hello")), of(file("etc/motd", "HELLO"))
		l.diffID = other.diffID
		return l
	},
	"wrong-size": func() layer {
		l := of(file("etc/motd", "hello"))
		l.size++
		return l
	},
	"missing-blob": func() layer {
		l := of(file("etc/motd", "hello"))
		l.absent = true
		return l
	},
	"link-first": func() layer {
		return of(entry{tar.Header{Typeflag: tar.TypeLink, Name: "etc/b", Linkname: "etc/a"}, ""}, file("etc/a", "a"))
	},
	"link-to-itself": func() layer {
		return of(entry{tar.Header{Typeflag: tar.TypeLink, Name: "etc/b", Linkname: "etc/b"}, ""})
	},
	"dotdot":           func() layer { return of(file("../escaped", "x")) },
	"under-file":       func() layer { return of(file("etc/motd", "hello"), file("etc/motd/x", "x")) },
	"bare-whiteout":    func() layer { return of(file("etc/.wh.", "")) },
	"dots-whiteout":    func() layer { return of(file("etc/.wh...", "")) },
	"whiteout-as-path": func() layer { return of(file("etc/.wh.d/x", "")) },
	"no-tar":           func() layer { return ofTar(bytes.Repeat([]byte("no tar\n"), 200)) },
	"huge-entry": func() layer {
		var buf bytes.Buffer
		// The header claims 4 EiB; the writer is not closed, so nothing follows.
		err := tar.NewWriter(&buf).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/huge", Mode: 0o644, Size: 1 << 62})
		if err != nil {
			panic(err)
		}
		return ofTar(buf.Bytes())
	},
}

func run(dir string) error {
	for name, bad := range layouts {
		if err := writeLayout(filepath.Join(dir, name), bad(), nil); err != nil {
			return err
		}
	}
	// A second "layers" in other letters, which Go's decoder would prefer.
	err := writeLayout(filepath.Join(dir, "two-layers-keys"), layouts["good"](), func(manifest []byte) []byte {
		return append(bytes.TrimSuffix(manifest, []byte("}")), `,"LAYERS":[]}`...)
	})
	if err != nil {
		return err
	}
	good := layouts["good"]()
	if err := writeArchive(filepath.Join(dir, "escape.tar"), good, "../../layer.tar"); err != nil {
		return err
	}
	cut := filepath.Join(dir, "cut.tar")
	if err := writeArchive(cut, good, "1/layer.tar"); err != nil {
		return err
	}
	info, err := os.Stat(cut)
	if err != nil {
		return err
	}
	return os.Truncate(cut, info.Size()/2)
}

type entry struct {
	hdr  tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

// of returns the layer that holds the entries in a folder etc.
func of(entries ...entry) layer {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	all := append([]entry{{tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, ""}}, entries...)
	for _, e := range all {
		e.hdr.Size = int64(len(e.body))
		must(tw.WriteHeader(&e.hdr))
		must(tw.Write([]byte(e.body)))
	}
	must(tw.Close())
	return ofTar(buf.Bytes())
}

func ofTar(content []byte) layer {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	must(w.Write(content))
	must(w.Close())
	return layer{blob: buf.Bytes(), digest: digest(buf.Bytes()), size: buf.Len(), diffID: digest(content)}
}

// must takes the results of writing to memory, which does not fail.
func must(results ...any) {
	if err, ok := results[len(results)-1].(error); ok {
		panic(err)
	}
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// config returns the image config for the two layers.
func config(base, bad layer) []byte {
	return encode(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config":       map[string]any{},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{base.diffID, bad.diffID}},
	})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// writeLayout writes an OCI layout; edit, if there is one, changes the
// manifest.
func writeLayout(dir string, bad layer, edit func([]byte) []byte) error {
	base := of(file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"))
	doc := config(base, bad)
	descriptor := func(mediaType, digest string, size int) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image." + mediaType, "digest": digest, "size": size}
	}
	manifest := encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        descriptor("config.v1+json", digest(doc), len(doc)),
		"layers": []any{
			descriptor("layer.v1.tar+gzip", base.digest, base.size),
			descriptor("layer.v1.tar+gzip", bad.digest, bad.size),
		},
	})
	if edit != nil {
		manifest = edit(manifest)
	}
	index := encode(map[string]any{
		"schemaVersion": 2,
		"manifests":     []any{descriptor("manifest.v1+json", digest(manifest), len(manifest))},
	})
	files := map[string][]byte{
		"oci-layout":           []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json":           index,
		blob(base.digest):      base.blob,
		blob(digest(doc)):      doc,
		blob(digest(manifest)): manifest,
	}
	if !bad.absent {
		files[blob(bad.digest)] = bad.blob
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func blob(digest string) string {
	return filepath.Join("blobs", "sha256", digest[len("sha256:"):])
}

// writeArchive writes a docker-archive whose manifest names second as the
// second layer's file.
func writeArchive(name string, bad layer, second string) error {
	base := of(file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"))
	doc := config(base, bad)
	docName := digest(doc)[len("sha256:"):] + ".json"
	manifest := encode([]any{map[string]any{
		"Config": docName, "RepoTags": []string{"example.com/bad:1"}, "Layers": []string{"0/layer.tar", second},
	}})
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range []entry{
		file("0/layer.tar", string(base.blob)),
		file("1/layer.tar", string(bad.blob)),
		file(docName, string(doc)),
		file("manifest.json", string(manifest)),
	} {
		e.hdr.Size = int64(len(e.body))
		must(tw.WriteHeader(&e.hdr))
		must(tw.Write([]byte(e.body)))
	}
	must(tw.Close())
	return os.WriteFile(name, buf.Bytes(), 0o644)
}
