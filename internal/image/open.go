package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Bounds on what one source may make this package read.
const (
	maxIndexDepth = 4   // of indexes within indexes
	maxDocuments  = 512 // indexes and manifests looked at to find one image
)

// Options say how sources are opened and targets written. The zero value
// serves where no standard input or output is involved.
type Options struct {
	// Stdin is read for a source that is standard input.
	Stdin io.Reader
	// Stdout is written for a target that is standard output.
	Stdout io.Writer
	// TempDir holds spools, which have no name there; empty: TMPDIR, else
	// /var/tmp.
	TempDir string
	// Insecure lists registries, with or without their port, that need no
	// TLS or have a certificate that is not verified; "*" is all of them.
	Insecure []string
	// CAFile holds certificates in PEM form to trust beside the system's.
	CAFile string
	// AuthFile holds credentials in the form of docker's config.json; empty:
	// REGISTRY_AUTH_FILE and the Docker keychain.
	AuthFile string
	// Retries is how often a failed request is sent again: 0 is the default
	// of 2, a negative number means never.
	Retries int
	// Jobs is how many blobs are transferred at a time; 0 is 4.
	Jobs int
	// UserAgent is sent to registries.
	UserAgent string
	// Transport sends the requests to registries in place of the default one;
	// Insecure then only chooses between http and https, and CAFile nothing.
	Transport http.RoundTripper
	// Prove, where set, is given what was written, read back from the target,
	// before the target gets its name: a tag, an entry of a layout's index, the
	// name of a file. Its error keeps the target from having it. Standard output
	// cannot be proved.
	Prove func(context.Context, *Image) error
	// Names are the references that a docker-archive target records where the
	// target itself names none.
	Names []string
}

// Source is an opened image source. Its reference is resolved: whatever
// happens to a tag later, all of its reads are of the same content.
type Source struct {
	list   func(context.Context) (*catalog, error)
	closer io.Closer
}

// catalog is what a source offers to choose from.
type catalog struct {
	images []candidate
	// notes tell what is beside the images, attestations for one.
	notes []string
	// absent tells which images the source names and does not hold.
	absent []string
}

// candidate is one image of a source.
type candidate struct {
	platform v1.Platform
	load     func(context.Context) (*Image, error)
}

// Open opens the image, or the images for several platforms, that ref names.
// Errors that have a remedy are a *HintError, wrong references a *UsageError.
func Open(ctx context.Context, ref Ref, o Options) (*Source, error) {
	switch ref.Transport {
	case Registry:
		return openRegistry(ctx, ref, o)
	case OCI:
		return openLayout(ctx, ref)
	case OCIArchive, DockerArchive, Stdio:
		return openArchiveSource(ctx, ref, o)
	default:
		return nil, &UsageError{Msg: fmt.Sprintf("%s cannot be read", ref)}
	}
}

// openArchiveSource opens a file or standard input. What a bare "-" is, its
// content says; manifest.json counts before index.json, as for docker load.
func openArchiveSource(ctx context.Context, ref Ref, o Options) (*Source, error) {
	var a *archive
	var err error
	if ref.IsStdio() {
		if o.Stdin == nil {
			return nil, errors.New("[internal error] no standard input to read")
		}
		a, err = spoolArchive(ctx, o.Stdin, o.TempDir)
	} else {
		a, err = openArchive(ctx, ref.Path, o.TempDir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	var s *Source
	if ref.Transport == OCIArchive || ref.Transport == Stdio && !a.has(savedManifest) && a.has(layoutIndex) {
		s, err = openOCIArchive(ref, a)
	} else {
		s, err = openDockerArchive(ref, a)
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	s.closer = a
	return s, nil
}

// Close releases what the source holds open; its images' layers cannot be
// opened afterwards.
func (s *Source) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// Image returns the image for a platform, OS/ARCH[/VARIANT]. An empty platform
// means the only one that can run on Linux; several of them are a *UsageError
// that lists them.
func (s *Source) Image(ctx context.Context, platform string) (*Image, error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	c, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	chosen, notes, err := c.choose(want)
	if err != nil {
		return nil, err
	}
	loaded, err := chosen.load(ctx)
	if err != nil {
		return nil, err
	}
	img := *loaded
	img.Notes = slices.Concat(notes, loaded.Notes)
	if a, b := normalize(chosen.platform), normalize(img.Platform); a.OS != b.OS || a.Architecture != b.Architecture {
		img.Notes = append(img.Notes, fmt.Sprintf("the index says %q, the image's config %q", chosen.platform, img.Platform))
	}
	return &img, nil
}

// choose selects one image; its notes tell what was left out.
func (c *catalog) choose(want *v1.Platform) (candidate, []string, error) {
	if want != nil {
		return c.match(*want)
	}
	notes := slices.Clone(c.notes)
	for _, p := range c.absent {
		notes = append(notes, p+" was left out")
	}
	var run, windows []candidate
	for _, i := range c.images {
		if strings.EqualFold(i.platform.OS, "windows") {
			windows = append(windows, i)
			notes = append(notes, fmt.Sprintf("the image for %q was left out", i.platform))
			continue
		}
		run = append(run, i)
	}
	run, duplicates := firstOfEach(run)
	switch {
	case len(run) == 1:
		return run[0], append(notes, duplicates...), nil
	case len(run) == 0 && len(windows) > 0:
		return windows[0], nil, nil // which says why it is refused
	case len(run) == 0:
		return candidate{}, nil, &HintError{Err: errors.New("the source holds no image" + c.absence()), Hint: "name another image"}
	}
	return candidate{}, nil, &UsageError{Msg: "the source holds images for several platforms: " + platforms(run), Hint: "select one with --platform"}
}

// match selects the image for a platform: the one with the same variant, or,
// where no variant is asked for, the only one there is.
func (c *catalog) match(want v1.Platform) (candidate, []string, error) {
	var exact, other []candidate
	for _, i := range c.images {
		have, spec := normalize(i.platform), normalize(want)
		switch {
		case have.OS != spec.OS || have.Architecture != spec.Architecture:
		case want.OSVersion != "" && want.OSVersion != have.OSVersion:
		case have.Variant == spec.Variant:
			exact = append(exact, i)
		case want.Variant == "":
			other = append(other, i)
		}
	}
	found := exact
	if len(found) == 0 {
		found = other
	}
	found, duplicates := firstOfEach(found)
	switch len(found) {
	case 1:
		return found[0], slices.Concat(c.notes, duplicates), nil
	case 0:
		return candidate{}, nil, &UsageError{
			Msg:  fmt.Sprintf("the source holds no image for %q%s", want, c.absence()),
			Hint: "it holds " + cmp.Or(platforms(c.images), "none"),
		}
	}
	return candidate{}, nil, &UsageError{Msg: fmt.Sprintf("several images match %q: %s", want, platforms(found)), Hint: "name the variant with --platform"}
}

// absence words what the source names and does not hold.
func (c *catalog) absence() string {
	if len(c.absent) == 0 {
		return ""
	}
	return " (" + strings.Join(c.absent, "; ") + ")"
}

// firstOfEach keeps the first image for each platform: the first matching
// entry of an index should be used.
func firstOfEach(images []candidate) (kept []candidate, notes []string) {
	seen := map[string]bool{}
	for _, i := range images {
		key := normalize(i.platform).String()
		if seen[key] {
			notes = append(notes, fmt.Sprintf("a further image for %q was left out", i.platform))
			continue
		}
		seen[key] = true
		kept = append(kept, i)
	}
	return kept, notes
}

// platforms lists the images' platforms for a message.
func platforms(images []candidate) string {
	var list []string
	for _, i := range images {
		if p := fmt.Sprintf("%.100q", i.platform.String()); !slices.Contains(list, p) {
			list = append(list, strings.Trim(p, `"`))
		}
	}
	return strings.Join(list, ", ")
}

// parsePlatform parses OS/ARCH[/VARIANT]; nil for the empty string.
func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return nil, &UsageError{Msg: fmt.Sprintf("%q is no platform", s), Hint: "a platform is OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64"}
	}
	return p, nil
}

// normalize gives one spelling to platforms that are the same, as containerd
// does: linux/arm64/v8 is linux/arm64 and linux/arm is linux/arm/v7.
func normalize(p v1.Platform) v1.Platform {
	p.OS, p.Architecture = strings.ToLower(p.OS), strings.ToLower(p.Architecture)
	switch p.Architecture {
	case "aarch64":
		p.Architecture = "arm64"
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	}
	switch p.Architecture + "/" + strings.ToLower(p.Variant) {
	case "arm64/v8", "arm64/8", "amd64/v1":
		p.Variant = ""
	case "arm/", "arm/7":
		p.Variant = "v7"
	}
	return p
}

// walk follows descriptors in a blob store to the images they lead to.
type walk struct {
	store blobStore
	// ref names the source in messages and images.
	ref   string
	names []string
	// roots are where the walk begins.
	roots []descriptor

	seen         map[v1.Hash]bool
	documents    int
	attestations int
	catalog      catalog
	// refused are errors about children that are no image, or none that can
	// be read; they count only where there is no other image.
	refused []error
}

// list implements Source.list.
func (w walk) list(ctx context.Context) (*catalog, error) {
	w.seen = map[v1.Hash]bool{}
	w.catalog = catalog{}
	for _, root := range w.roots {
		if err := w.visit(ctx, root, 0); err != nil {
			return nil, err
		}
	}
	if w.attestations > 0 {
		w.catalog.notes = append(w.catalog.notes, fmt.Sprintf("%d attestation manifests beside the image were left out", w.attestations))
	}
	if len(w.catalog.images) == 0 && len(w.refused) > 0 {
		return nil, w.refused[0]
	}
	for _, err := range w.refused {
		w.catalog.notes = append(w.catalog.notes, fmt.Sprintf("an entry of the index was left out: %v", err))
	}
	return &w.catalog, nil
}

// visit enters the images below one descriptor into the catalog.
func (w *walk) visit(ctx context.Context, d descriptor, depth int) error {
	if w.seen[d.Digest] {
		return nil
	}
	w.seen[d.Digest] = true
	alone := depth == 0 && len(w.roots) == 1
	switch {
	case alone:
	case isAttestation(d):
		w.attestations++
		return nil
	case d.ArtifactType != "" || !d.MediaType.IsImage() && !d.MediaType.IsIndex() && d.MediaType != "":
		w.catalog.notes = append(w.catalog.notes, fmt.Sprintf("an entry of type %.100q was left out", cmp.Or(d.ArtifactType, string(d.MediaType))))
		return nil
	case !w.store.has(d.Digest):
		w.catalog.absent = append(w.catalog.absent, absence(d))
		return nil
	case d.MediaType.IsImage() && d.Platform != nil && d.Platform.OS != "" && d.Platform.Architecture != "":
		w.catalog.images = append(w.catalog.images, candidate{platform: *d.Platform, load: func(ctx context.Context) (*Image, error) {
			return w.load(ctx, d)
		}})
		return nil
	}
	return w.look(ctx, d, depth, alone)
}

// look reads a document to see what it is: an index, or an image whose
// platform only its config tells.
func (w *walk) look(ctx context.Context, d descriptor, depth int, alone bool) error {
	if w.documents++; w.documents > maxDocuments {
		return fmt.Errorf("reading the index: more than %d manifests", maxDocuments)
	}
	raw, err := w.document(ctx, d)
	if err != nil {
		return err
	}
	if !d.MediaType.IsIndex() && (d.MediaType != "" || !isIndex(raw)) {
		img, err := w.image(ctx, d, raw)
		switch {
		case err == nil:
			w.catalog.images = append(w.catalog.images, candidate{platform: img.Platform, load: func(context.Context) (*Image, error) {
				return img, nil
			}})
		case alone || ctx.Err() != nil:
			return err
		default:
			w.refused = append(w.refused, err)
		}
		return nil
	}
	if depth >= maxIndexDepth {
		return fmt.Errorf("reading the index: more than %d indexes within one another", maxIndexDepth)
	}
	index, err := parseIndex(raw)
	if err == nil {
		err = checkMediaType(d.MediaType, index.MediaType)
	}
	if err != nil {
		return fmt.Errorf("reading index %s: %w", d.Digest, err)
	}
	for _, child := range index.Manifests {
		if err := w.visit(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// absence words that an image's manifest is not there.
func absence(d descriptor) string {
	what := "an image"
	if d.Platform != nil {
		what = fmt.Sprintf("the image for %.100q", d.Platform.String())
	}
	return fmt.Sprintf("%s, whose manifest %s is not stored,", what, d.Digest)
}

// isAttestation recognises what BuildKit puts beside an image, see
// https://github.com/moby/buildkit/blob/v0.29.0/docs/attestations/attestation-storage.md
func isAttestation(d descriptor) bool {
	unknown := d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
	return unknown || d.Annotations["vnd.docker.reference.type"] != ""
}

// isIndex tells whether a document that no descriptor describes is an index.
func isIndex(raw []byte) bool {
	o, err := parseMap(raw)
	return err == nil && o.get("manifests") != nil
}

// document reads a manifest or index.
func (w *walk) document(ctx context.Context, d descriptor) ([]byte, error) {
	rc, err := w.store.manifest(ctx, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	raw, err := readDocument(rc, d.Digest, d.Size, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	return raw, nil
}

// load reads the image of a manifest's descriptor.
func (w *walk) load(ctx context.Context, d descriptor) (*Image, error) {
	raw, err := w.document(ctx, d)
	if err != nil {
		return nil, err
	}
	return w.image(ctx, d, raw)
}

// image reads the config that a manifest names and puts the image together.
func (w *walk) image(ctx context.Context, d descriptor, manifest []byte) (*Image, error) {
	ref := w.ref + "@" + d.Digest.String()
	m, err := parseManifest(manifest, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("reading %s: manifest: %w", ref, err)
	}
	config, err := w.config(ctx, m.Config)
	if err != nil {
		return nil, fmt.Errorf("reading %s: config: %w", ref, err)
	}
	img, err := newImage(ref, d.Digest, d.MediaType, manifest, config)
	if err != nil {
		return nil, err
	}
	img.Names = slices.Clone(w.names)
	for i := range img.Layers {
		l := &img.Layers[i]
		if !l.Foreign && !w.store.has(l.Digest) {
			return nil, fmt.Errorf("reading %s: layer %d: %w", ref, i+1, missingBlob(l.Digest, fs.ErrNotExist))
		}
		l.origin = w.store.origin()
		l.Open = w.opener(l.Digest)
	}
	return img, nil
}

// opener returns what opens a layer's blob. The urls of a foreign layer are
// not among the places where it looks.
func (w *walk) opener(h v1.Hash) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return w.store.blob(ctx, h) }
}

// config reads an image config.
func (w *walk) config(ctx context.Context, d descriptor) ([]byte, error) {
	rc, err := w.store.blob(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	return readDocument(rc, d.Digest, d.Size, maxConfigSize)
}
