package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"time"
)

// openOCIArchive opens an image of a layout in a tar file.
func openOCIArchive(ref Ref, a *archive) (*Source, error) {
	w, err := readLayout(ref, a)
	if err != nil {
		return nil, err
	}
	return &Source{tree: w.tree}, nil
}

// writeOCIArchive writes a document as a layout in a tar file. The same document
// gives the same bytes.
func writeOCIArchive(ctx context.Context, target Ref, doc *document, images []*Image, o Options) (string, error) {
	if _, ok := target.Digest(); ok {
		return "", &UsageError{Msg: fmt.Sprintf("%s names a digest; a target is written under a name", target), Hint: "write oci-archive:FILE:NAME"}
	}
	err := writeArchive(ctx, target, images, o, func(tw *tarWriter) error { return tw.layout(ctx, doc, target.Name) })
	if err != nil {
		return "", err
	}
	return doc.digest.String(), nil
}

// layout writes the members of a layout with one entry.
func (tw *tarWriter) layout(ctx context.Context, doc *document, name string) error {
	entry, err := indexEntry(doc, name)
	if err != nil {
		return err
	}
	if err := tw.document(layoutFile, []byte(layoutContent)); err != nil {
		return err
	}
	if err := tw.document(layoutIndex, newIndex(entry)); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, b := range doc.stored() {
		dir := path.Dir(blobName(b.Digest))
		for _, d := range []string{path.Dir(dir), dir} {
			if dirs[d] {
				continue
			}
			dirs[d] = true
			if err := tw.directory(d); err != nil {
				return err
			}
		}
		if err := tw.blob(ctx, blobName(b.Digest), b); err != nil {
			return err
		}
	}
	return nil
}

// tarWriter writes archives whose bytes depend on names and contents alone.
type tarWriter struct{ *tar.Writer }

// header writes that of a regular file.
func (tw *tarWriter) header(name string, size int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)})
}

// directory writes an entry for a directory.
func (tw *tarWriter) directory(name string) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
}

// document writes a small member.
func (tw *tarWriter) document(name string, data []byte) error {
	if err := tw.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// blob writes and verifies a layer's blob as it is stored.
func (tw *tarWriter) blob(ctx context.Context, name string, l Layer) error {
	rc, err := openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	return tw.stream(name, l.Size, rc)
}

// stream writes a member from a reader.
func (tw *tarWriter) stream(name string, size int64, r io.Reader) error {
	if err := tw.header(name, size); err != nil {
		return err
	}
	return copyTo(tw, r)
}
