package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The files of an OCI image layout, see
// https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
const (
	layoutFile    = "oci-layout"
	layoutIndex   = "index.json"
	layoutBlobs   = "blobs"
	layoutContent = `{"imageLayoutVersion":"1.0.0"}`
	// maxLayoutFile bounds the file that says which version a layout has.
	maxLayoutFile = 4 << 10
)

// Annotations that name an entry of a layout's index: the specification's, and
// the one with which containerd and docker add the full reference.
const (
	refNameAnnotation    = "org.opencontainers.image.ref.name"
	containerdAnnotation = "io.containerd.image.name"
)

// files are what a layout is read from: a directory or an archive. Names are
// slash-separated; errors about absent ones wrap fs.ErrNotExist.
type files interface {
	open(name string) (io.ReadCloser, error)
	has(name string) bool
	read(name string, limit int64) ([]byte, error)
}

// layoutStore is the blobStore of a layout.
type layoutStore struct{ files files }

// blobName is where a layout keeps a blob. The digest was parsed, so it holds
// no separators.
func blobName(h v1.Hash) string { return layoutBlobs + "/" + h.Algorithm + "/" + h.Hex }

// blob implements blobStore.
func (s layoutStore) blob(_ context.Context, d descriptor) (io.ReadCloser, error) {
	rc, err := s.files.open(blobName(d.Digest))
	if err != nil {
		return nil, missingBlob(d.Digest, err)
	}
	return rc, nil
}

// manifest implements blobStore.
func (s layoutStore) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	return s.blob(ctx, d)
}

// has implements blobStore.
func (s layoutStore) has(h v1.Hash) bool { return s.files.has(blobName(h)) }

// origins implements blobStore.
func (s layoutStore) origins() []registryBlob { return nil }

// dirFiles reads files below a directory that the user named.
type dirFiles string

func (d dirFiles) open(name string) (io.ReadCloser, error) { return d.file(name) }

// file opens a regular file; without O_NONBLOCK a named pipe would hang.
func (d dirFiles) file(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), filepath.FromSlash(name)), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, cmp.Or(err, fmt.Errorf("%q is not a regular file", name))
	}
	return f, nil
}

func (d dirFiles) has(name string) bool {
	info, err := os.Stat(filepath.Join(string(d), filepath.FromSlash(name)))
	return err == nil && info.Mode().IsRegular()
}

func (d dirFiles) read(name string, limit int64) ([]byte, error) {
	f, err := d.file(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%q: more than %d bytes", name, limit)
	}
	return data, err
}

// openLayout opens an image in a layout directory.
func openLayout(_ context.Context, ref Ref) (*Source, error) {
	info, err := os.Stat(ref.Path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	if !info.IsDir() {
		return nil, &HintError{Err: fmt.Errorf("opening %s: %q is not a directory", ref, ref.Path), Hint: "an OCI layout in a tar file is named oci-archive:FILE"}
	}
	w, err := readLayout(ref, dirFiles(ref.Path))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	return &Source{tree: w.tree}, nil
}

// readLayout reads a layout's index and selects what ref names in it.
func readLayout(ref Ref, f files) (*walk, error) {
	if err := checkLayout(f); err != nil {
		return nil, err
	}
	raw, err := f.read(layoutIndex, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", layoutIndex, err)
	}
	index, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", layoutIndex, err)
	}
	roots, err := selectEntries(index.Manifests, ref)
	if err != nil {
		return nil, err
	}
	w := &walk{store: layoutStore{f}, ref: strings.TrimSuffix(ref.String(), ":"+ref.Name)}
	for _, root := range roots {
		if n := imageName(root); n != "" && !slices.Contains(w.names, n) {
			w.names = append(w.names, n)
		}
		if !slices.ContainsFunc(w.roots, func(r descriptor) bool { return r.Digest == root.Digest }) {
			w.roots = append(w.roots, root)
		}
	}
	return w, nil
}

// checkLayout reads the version of a layout.
func checkLayout(f files) error {
	raw, err := f.read(layoutFile, maxLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &HintError{Err: fmt.Errorf("not an OCI image layout: it has no %s", layoutFile), Hint: "what docker save writes is named docker-archive:FILE"}
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", layoutFile, err)
	}
	o, err := parseObject(raw, "imageLayoutVersion")
	if err != nil {
		return fmt.Errorf("reading %s: %w", layoutFile, err)
	}
	version, err := o.text("imageLayoutVersion")
	if err != nil {
		return fmt.Errorf("reading %s: %w", layoutFile, err)
	}
	if !strings.HasPrefix(version, "1.") {
		return fmt.Errorf("OCI image layout of version %.50q, not 1.0.0", version)
	}
	return nil
}

// selectEntries returns the entries of a layout's index that ref means: those
// of its name, the manifest of its digest, or, where it selects nothing, the
// only image.
func selectEntries(entries []descriptor, ref Ref) ([]descriptor, error) {
	if digest, ok := ref.Digest(); ok {
		for _, e := range entries {
			if e.Digest == digest {
				return []descriptor{e}, nil
			}
		}
		// It may be below an index; stored is stored.
		return []descriptor{{Digest: digest, Size: -1}}, nil
	}
	var found []descriptor
	named := false
	for _, e := range entries {
		if ref.Name == "" || e.Annotations[refNameAnnotation] == ref.Name {
			found = append(found, e)
			named = named || e.Annotations[refNameAnnotation] != ""
		}
	}
	switch {
	case len(entries) == 0:
		return nil, errors.New("the layout holds no image")
	case len(found) == 0:
		return nil, &UsageError{Msg: fmt.Sprintf("the layout holds no image %q", ref.Name), Hint: "it holds " + entryNames(entries)}
	case ref.Name == "" && named && !oneDigest(found):
		return nil, &UsageError{Msg: "the layout holds several images: " + entryNames(entries), Hint: fmt.Sprintf("select one: %s:NAME", ref)}
	}
	return found, nil
}

func oneDigest(entries []descriptor) bool {
	return !slices.ContainsFunc(entries, func(e descriptor) bool { return e.Digest != entries[0].Digest })
}

// imageName is the full reference that an entry carries, empty if none: a ref
// name is often a tag alone.
func imageName(e descriptor) string {
	if n := e.Annotations[containerdAnnotation]; n != "" {
		return n
	}
	if n := e.Annotations[refNameAnnotation]; strings.ContainsAny(n, ":/") {
		return n
	}
	return ""
}

// entryNames lists what a layout holds, for a message.
func entryNames(entries []descriptor) string {
	const most = 20
	var list []string
	for _, e := range entries {
		if len(list) == most {
			return strings.Join(list, ", ") + fmt.Sprintf(" and %d more", len(entries)-most)
		}
		if n := e.Annotations[refNameAnnotation]; n != "" {
			list = append(list, fmt.Sprintf("%.100q", n))
		} else {
			list = append(list, "@"+e.Digest.String())
		}
	}
	return strings.Join(list, ", ")
}

// indexEntry is the entry of a document in the index of a layout.
func indexEntry(doc *document, name string) (json.RawMessage, error) {
	d := v1.Descriptor{MediaType: doc.mediaType, Digest: doc.digest, Size: int64(len(doc.raw))}
	if name != "" {
		d.Annotations = map[string]string{refNameAnnotation: name}
	}
	return json.Marshal(d)
}

// newIndex is the index of a layout with one entry.
func newIndex(entry json.RawMessage) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, types.OCIImageIndex, entry)
}

// replaceEntry puts an entry into an index in the place of the entries of the
// same name; all else stays as it is. A nameless entry takes the place of the
// only nameless image.
func replaceEntry(index []byte, entry json.RawMessage, name string) ([]byte, error) {
	doc, err := parseIndex(index)
	if err != nil {
		return nil, err
	}
	root, err := parseObject(index, "manifests")
	if err != nil {
		return nil, err
	}
	list, err := root.list("manifests")
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = &array{container{open: '[', close: ']'}}
	}
	same := sameName(doc.Manifests, name)
	for _, i := range slices.Backward(same[min(1, len(same)):]) {
		list.remove(i, i+1)
	}
	if len(same) > 0 {
		list.items[same[0]].value = entry
	} else {
		list.add(item{value: entry})
	}
	root.set("manifests", list.bytes())
	edited := root.bytes()
	if len(edited) > maxManifestSize {
		return nil, fmt.Errorf("the index would have more than %d bytes", maxManifestSize)
	}
	return edited, nil
}

// sameName returns the positions of the entries that an entry of that name
// replaces.
func sameName(entries []descriptor, name string) []int {
	var same []int
	for i, e := range entries {
		if e.Annotations[refNameAnnotation] == name && (name != "" || e.ArtifactType == "" && !isAttestation(e)) {
			same = append(same, i)
		}
	}
	if name == "" && len(same) > 1 {
		return nil
	}
	return same
}

// layoutWriter writes an image or index into a layout directory while it holds the
// layout's lock, and takes back what it created if it does not come to the
// end.
type layoutWriter struct {
	dir     string
	lock    *os.File
	created []string // in order of creation
}

// writeLayout adds a document to a layout directory, which is created if need
// be. images are those that can be proved.
func writeLayout(ctx context.Context, target Ref, doc *document, images []*Image, o Options) (string, error) {
	if _, ok := target.Digest(); ok {
		return "", &UsageError{Msg: fmt.Sprintf("%s names a digest; a target is written under a name", target), Hint: "write oci:DIR:NAME"}
	}
	w, err := lockLayout(ctx, target.Path)
	if err != nil {
		return "", err
	}
	defer w.lock.Close()
	if err := w.write(ctx, doc, images, target.Name, o); err != nil {
		w.rollback()
		return "", err
	}
	return doc.digest.String(), nil
}

// lockLayout creates the directory and the file that is locked, oci-layout,
// as far as they do not exist.
func lockLayout(ctx context.Context, dir string) (*layoutWriter, error) {
	for {
		w := &layoutWriter{dir: dir}
		if err := checkLayoutTarget(dir); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o777); err == nil {
			w.created = append(w.created, dir)
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		lock, err := lockFile(ctx, filepath.Join(dir, layoutFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another run created the directory and took it back
		}
		if err != nil {
			w.rollback()
			return nil, err
		}
		w.lock = lock
		return w, nil
	}
}

// checkLayoutTarget refuses a directory that holds anything but a layout.
func checkLayoutTarget(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isLayout := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == layoutFile })
	if len(entries) > 0 && !isLayout {
		return &HintError{Err: fmt.Errorf("%q is not empty and no OCI image layout", dir), Hint: "name another directory"}
	}
	return nil
}

// write puts blobs first and the index last, so that whoever reads the layout
// meanwhile sees the old state or the new one.
func (w *layoutWriter) write(ctx context.Context, doc *document, images []*Image, name string, o Options) error {
	entry, err := indexEntry(doc, name)
	if err != nil {
		return err
	}
	index, err := w.index(entry, name)
	if err != nil {
		return fmt.Errorf("editing %s: %w", layoutIndex, err)
	}
	removeLeftovers(w.dir)
	removeLeftovers(filepath.Join(w.dir, layoutBlobs, "sha256"))
	for _, b := range doc.stored() {
		if err := w.blob(ctx, b); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := w.prove(ctx, images, o); err != nil {
		return err
	}
	if info, err := w.lock.Stat(); err == nil && info.Size() == 0 {
		if _, err := w.lock.WriteString(layoutContent); err != nil {
			return fmt.Errorf("writing %s: %w", layoutFile, err)
		}
	}
	return replaceFile(filepath.Join(w.dir, layoutIndex), func(f io.Writer) error {
		_, err := f.Write(index)
		return err
	}, nil)
}

// prove has images proved that are read from the layout's blobs, which the index
// does not name yet.
func (w *layoutWriter) prove(ctx context.Context, images []*Image, o Options) error {
	if o.Prove == nil {
		return nil
	}
	return proveStored(ctx, layoutStore{dirFiles(w.dir)}, "oci:"+w.dir, images, o)
}

// index returns the layout's index with the entry in it. It also notes what
// there is to take back: a layout without an index is one that nobody
// completed.
func (w *layoutWriter) index(entry json.RawMessage, name string) ([]byte, error) {
	files := dirFiles(w.dir)
	old, err := files.read(layoutIndex, maxManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := w.lock.Stat(); err == nil && info.Size() == 0 {
			w.created = append(w.created, filepath.Join(w.dir, layoutFile))
		}
		return newIndex(entry), nil
	}
	if err != nil {
		return nil, err
	}
	if err := checkLayout(files); err != nil {
		return nil, err
	}
	return replaceEntry(old, entry, name)
}

// blob stores one blob, unless the layout holds it with the right content.
func (w *layoutWriter) blob(ctx context.Context, l Layer) error {
	path := filepath.Join(w.dir, filepath.FromSlash(blobName(l.Digest)))
	if intact(ctx, path, l) {
		return nil
	}
	if err := w.mkdirs(filepath.Dir(path)); err != nil {
		return err
	}
	_, statErr := os.Lstat(path)
	if err := replaceFile(path, func(f io.Writer) error { return copyLayer(ctx, f, l) }, nil); err != nil {
		return fmt.Errorf("writing blob %s: %w", l.Digest, err)
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		w.created = append(w.created, path)
	}
	return nil
}

// mkdirs creates the directories of a blob.
func (w *layoutWriter) mkdirs(dir string) error {
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o777); err == nil {
			w.created = append(w.created, d)
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// rollback removes what this run created. A directory that somebody else put
// something into stays.
func (w *layoutWriter) rollback() {
	for _, path := range slices.Backward(w.created) {
		os.Remove(path)
	}
}

// intact tells whether a file holds a layer's blob: a killed machine can leave
// a file of the right name without its content.
func intact(ctx context.Context, path string, l Layer) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != l.Size {
		return false
	}
	v, err := newVerifier(&contextReader{ctx, f}, l.Digest, l.Size)
	return err == nil && copyTo(io.Discard, v) == nil
}
