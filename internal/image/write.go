package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Write writes an image to a target and returns what names it there: the
// reference with the digest for a registry, the manifest's digest for an OCI
// layout, the config's digest for a docker-archive, the ID that an engine gives
// it.
//
// Layers are read through Layer.Open, and not at all where the target has the
// blob or takes it from another repository of the same registry. Every blob
// that is copied is verified. After an error, or when ctx ends, the target is
// as it was; blobs that a registry has taken stay there without a name.
func Write(ctx context.Context, target Ref, img *Image, o Options) (line string, err error) {
	if err := checkConsistent(img); err != nil {
		return "", err
	}
	switch target.Transport {
	case DockerArchive, Stdio:
		line, err = writeDockerArchive(ctx, target, img, o)
	case DockerDaemon:
		line, err = writeDaemon(ctx, target, img, o)
	default:
		if img, err = completeImage(ctx, img, target.Transport.family()); err == nil {
			line, err = writeDocument(ctx, target, img.document(), []*Image{img}, o)
		}
	}
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", target, err)
	}
	return line, nil
}

// WriteIndex writes an index with all that it leads to, as Write does an image. A
// target that holds one image is a *UsageError.
func WriteIndex(ctx context.Context, target Ref, index *Index, o Options) (string, error) {
	if target.Transport.HoldsOne() {
		return "", &UsageError{Msg: fmt.Sprintf("%s holds one image and no index", target), Hint: "select a platform with --platform"}
	}
	for _, img := range index.Images {
		if err := checkConsistent(img); err != nil {
			return "", err
		}
	}
	line, err := writeDocument(ctx, target, index.root, index.Images, o)
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", target, err)
	}
	return line, nil
}

// family is the media type of the manifests that a target usually holds.
func (t Transport) family() types.MediaType {
	if t == Registry {
		return types.DockerManifestSchema2
	}
	return types.OCIManifestSchema1
}

// writeDocument writes an image or an index to a target that stores documents as
// they are. images are those in it that are to be proved.
func writeDocument(ctx context.Context, target Ref, doc *document, images []*Image, o Options) (string, error) {
	switch target.Transport {
	case Registry:
		return writeRegistry(ctx, target, doc, images, o)
	case OCI:
		return writeLayout(ctx, target, doc, images, o)
	case OCIArchive:
		return writeOCIArchive(ctx, target, doc, images, o)
	}
	return "", &UsageError{Msg: fmt.Sprintf("%s cannot be written", target)}
}

// CheckTarget finds, before any work, what keeps a target from being written: a
// reference that names no place to write to, a folder that is missing or holds
// something else, a file that is no regular one, an engine that does not run.
func CheckTarget(target Ref) error {
	if target.IsStdio() || target.Transport == Registry {
		return nil
	}
	if target.Transport == DockerDaemon {
		return checkDaemonTarget(target)
	}
	if _, ok := target.Digest(); ok || strings.HasPrefix(target.Name, "@") {
		return &UsageError{Msg: fmt.Sprintf("%s names an image by digest or number; a target is written under a name", target), Hint: "write a name in its place, or none"}
	}
	dir := filepath.Dir(filepath.Clean(target.Path))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &UsageError{Msg: fmt.Sprintf("writing %s: there is no folder %q", target, dir), Hint: "make it first"}
	}
	var err error
	if target.Transport == OCI {
		err = checkLayoutTarget(target.Path)
	} else {
		_, err = targetFile(target.Path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return nil
}

// checkConsistent makes sure that an image is written whose documents belong
// together.
func checkConsistent(img *Image) error {
	if img.Manifest == nil {
		return nil
	}
	again, err := newImage(img.Ref, img.Digest, img.MediaType, img.Manifest, img.Config)
	if err != nil {
		return fmt.Errorf("[internal error] %w", err)
	}
	if len(again.Layers) != len(img.Layers) {
		return fmt.Errorf("[internal error] %d layers beside a manifest of %d", len(img.Layers), len(again.Layers))
	}
	for i, l := range again.Layers {
		if l.Digest != img.Layers[i].Digest || l.Size != img.Layers[i].Size || l.DiffID != img.Layers[i].DiffID {
			return fmt.Errorf("[internal error] layer %d is %s, its manifest says %s", i+1, img.Layers[i].Digest, l.Digest)
		}
	}
	return nil
}

// identify gives a digest and the media type of an uncompressed layer to one
// that has none, the member of a classic docker-archive. Plain tar is its own
// diffID, which the copy verifies; a compressed member is read to its end.
func identify(ctx context.Context, l Layer) (Layer, error) {
	if l.Digest != (v1.Hash{}) {
		return l, nil
	}
	rc, err := l.Open(ctx)
	if err != nil {
		return l, err
	}
	defer rc.Close()
	raw := &hashReader{r: &contextReader{ctx, rc}}
	if raw.h, err = v1.Hasher("sha256"); err != nil {
		return l, err
	}
	r := bufio.NewReaderSize(raw, copyBuffer)
	head, err := r.Peek(magicLen)
	if err != nil && err != io.EOF {
		return l, err
	}
	compression := sniff(head)
	if compression == "" {
		l.Digest, l.MediaType = l.DiffID, types.OCIUncompressedLayer
		return l, nil
	}
	if _, err := inflateVerified(io.Discard, r, l); err != nil {
		return l, err
	}
	l.MediaType = types.OCIUncompressedLayer + types.MediaType("+"+compression)
	l.Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(raw.h.Sum(nil))}
	return l, nil
}

// hashReader hashes what is read through it.
type hashReader struct {
	r io.Reader
	h hash.Hash
}

// Read implements io.Reader.
func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	return n, err
}

// inflateVerified inflates a layer to w, reads it to its end, checks its
// diffID and returns its inflated size.
func inflateVerified(w io.Writer, r *bufio.Reader, l Layer) (int64, error) {
	h, err := v1.Hasher(l.DiffID.Algorithm)
	if err != nil {
		return 0, err
	}
	counted := &countWriter{w: io.MultiWriter(h, w)}
	if err := inflate(counted, r); err != nil {
		return 0, fmt.Errorf("decompressing: %w", err)
	}
	if err := copyTo(io.Discard, r); err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != l.DiffID.Hex {
		return 0, fmt.Errorf("the config says diffID %s, the content has %s:%s", l.DiffID, l.DiffID.Algorithm, got)
	}
	return counted.n, nil
}

type countWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// completeImage gives a manifest of the family to an image that has none; its
// config stays as it is.
func completeImage(ctx context.Context, img *Image, family types.MediaType) (*Image, error) {
	if img.Manifest != nil {
		return img, nil
	}
	layers := make([]Layer, len(img.Layers))
	for i, l := range img.Layers {
		l, err := identify(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.DiffID, err)
		}
		// Docker's family has no type for zstd.
		if l.MediaType == types.OCILayerZStd {
			family = types.OCIManifestSchema1
		}
		l.Descriptor = newDescriptor(l.MediaType, l.Digest, l.Size)
		layers[i] = l
	}
	var notes []string
	manifest, err := rewriteManifest(img, img.Config, layers, Rewrite{Kept: len(layers), Family: family}, &notes)
	if err != nil {
		return nil, fmt.Errorf("writing a manifest: %w", err)
	}
	c, err := newImage(img.Ref, v1.Hash{}, family, manifest, img.Config)
	if err != nil {
		return nil, fmt.Errorf("checking the manifest: %w", err)
	}
	for i := range c.Layers {
		c.Layers[i].Open = layers[i].Open
	}
	return c, nil
}

// configAlgorithm is the digest algorithm by which the manifest names the
// config.
func configAlgorithm(img *Image) string {
	if c, err := configOf(img.Manifest); err == nil {
		return c.Digest.Algorithm
	}
	return "sha256"
}

func memoryBlob(data []byte, algorithm string) Layer {
	h, err := hashAs(algorithm, data)
	if err != nil {
		h = digestOf(data)
	}
	return Layer{Digest: h, Size: int64(len(data)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// writeArchive writes a tar file to the target, which is standard output or a
// file that appears when it is complete.
// images are those that are to be proved; nil for the only one.
func writeArchive(ctx context.Context, target Ref, images []*Image, o Options, fill func(*tarWriter) error) error {
	write := func(w io.Writer) error { return writeTar(ctx, w, fill) }
	if target.IsStdio() {
		if o.Stdout == nil || o.Prove != nil {
			return errors.New("[internal error] standard output cannot be written or proved")
		}
		return write(o.Stdout)
	}
	path, err := targetFile(target.Path)
	if err != nil {
		return err
	}
	removeLeftovers(filepath.Dir(path))
	if o.Prove == nil {
		return replaceFile(path, write, nil)
	}
	return replaceFile(path, write, func(complete string) error {
		s, err := Open(ctx, Ref{Transport: target.Transport, Path: complete}, o)
		if err != nil {
			return fmt.Errorf("reading back: %w", err)
		}
		defer s.Close()
		return s.prove(ctx, images, o)
	})
}

// writeTar writes a tar file; after an error what was written has no end.
func writeTar(ctx context.Context, w io.Writer, fill func(*tarWriter) error) error {
	bw := bufio.NewWriterSize(w, copyBuffer)
	tw := &tarWriter{tar.NewWriter(bw)}
	if err := fill(tw); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return bw.Flush()
}

// prove has images of a source proved, each read back by its digest; without any, the
// only one that the source holds.
func (s *Source) prove(ctx context.Context, images []*Image, o Options) error {
	t, err := s.tree(ctx)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if len(images) > 0 {
		return proveStored(ctx, t.store, "", images, o)
	}
	only, err := s.Image(ctx, "")
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	return o.Prove(ctx, only)
}

// proveStored has images proved that a store holds.
func proveStored(ctx context.Context, store blobStore, ref string, images []*Image, o Options) error {
	from := walk{store: store, ref: ref}
	for _, img := range images {
		back, err := from.load(ctx, descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Manifest))})
		if err != nil {
			return fmt.Errorf("reading back: %w", err)
		}
		if err := o.Prove(ctx, back); err != nil {
			return err
		}
	}
	return nil
}

// targetFile returns the path to write a file target at: behind a symbolic
// link, so that the link stays. What is no regular file is not replaced.
func targetFile(path string) (string, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		info, err = os.Lstat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", &HintError{Err: fmt.Errorf("%q exists and is no regular file", path), Hint: "write to standard output with -"}
	}
	return path, nil
}

// replaceFile writes a temporary file beside path and renames it when it is
// complete. check, where set, is given the temporary file's path before that.
func replaceFile(path string, fill func(io.Writer) error, check func(path string) error) error {
	t, err := createTemp(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err = fill(t); err == nil {
		err = keepMode(t.File, path)
	}
	if err == nil && check != nil {
		err = check(t.Name())
	}
	if err != nil {
		t.discard()
		return err
	}
	return t.commit(path)
}

// keepMode gives a file the permissions of the one that it will replace.
func keepMode(f *os.File, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return f.Chmod(info.Mode().Perm())
}

// Line is what Write and WriteIndex return for a registry or an OCI layout that
// holds the digest.
func Line(target Ref, digest v1.Hash) string {
	if target.Transport == Registry {
		return repositoryTyped(target.Name) + "@" + digest.String()
	}
	return digest.String()
}
