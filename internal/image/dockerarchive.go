package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The members of an archive of docker save that say what is in it, see
// https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md#combined-image-json--filesystem-changeset-format
const (
	savedManifest     = "manifest.json"
	savedRepositories = "repositories"
	// maxSavedImages is how many images of one archive are looked at.
	maxSavedImages = 256
)

// savedImage is an element of manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// openDockerArchive selects what ref names of an archive of docker save.
func openDockerArchive(ref Ref, a *archive) (*Source, error) {
	saved, err := readSaved(a)
	if err != nil {
		return nil, err
	}
	chosen, err := selectSaved(saved, ref)
	if err != nil {
		return nil, err
	}
	d := &dockerArchive{ref: ref.String(), archive: a, images: chosen}
	return &Source{tree: d.tree}, nil
}

// readSaved reads manifest.json.
func readSaved(a *archive) ([]savedImage, error) {
	switch {
	case a.has(savedManifest):
	case a.has(layoutIndex):
		return nil, &HintError{Err: fmt.Errorf("the archive has no %s", savedManifest), Hint: "an OCI layout in a tar file is named oci-archive:FILE"}
	case a.has(savedRepositories):
		return nil, &HintError{
			Err:  fmt.Errorf("the archive has no %s: it is of a Docker before 1.10, whose images have no config with diffIDs", savedManifest),
			Hint: "convert it with docker load and docker save of a Docker before 26",
		}
	default:
		return nil, &HintError{Err: fmt.Errorf("the archive has no %s", savedManifest), Hint: "an archive of an image comes from docker save, skopeo copy or slim; docker export has no image"}
	}
	raw, err := a.read(savedManifest, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", savedManifest, err)
	}
	saved, err := parseSaved(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", savedManifest, err)
	}
	return saved, nil
}

func parseSaved(raw []byte) ([]savedImage, error) {
	if err := checkDocument(raw, maxManifestSize); err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(raw)) == "null" {
		return nil, &HintError{Err: errors.New("it is null: the archive holds no image"), Hint: "save the image again, by a name or ID that docker images lists"}
	}
	list, err := parseArray(raw)
	if err != nil {
		return nil, err
	}
	if len(list.items) == 0 {
		return nil, errors.New("the archive holds no image")
	}
	saved := make([]savedImage, len(list.items))
	for i, m := range list.items {
		o, err := parseObject(m.value, "Config", "RepoTags", "Layers", "Parent", "LayerSources")
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		config, err1 := o.text("Config")
		tags, err2 := o.texts("RepoTags")
		layers, err3 := o.texts("Layers")
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		saved[i] = savedImage{Config: config, RepoTags: tags, Layers: layers}
	}
	return saved, nil
}

// selectSaved returns the images that ref means. Several of one name are of
// several platforms.
func selectSaved(saved []savedImage, ref Ref) ([]savedImage, error) {
	if number, ok := strings.CutPrefix(ref.Name, "@"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(saved) {
			return nil, &UsageError{Msg: fmt.Sprintf("%s: the archive holds %d images, counted from 0", ref, len(saved)), Hint: "it holds " + savedNames(saved)}
		}
		return saved[n : n+1], nil
	}
	var found []savedImage
	for _, s := range saved {
		if ref.Name == "" || slices.ContainsFunc(s.RepoTags, func(tag string) bool { return sameTag(tag, ref.Name) }) {
			found = append(found, s)
		}
	}
	several := ref.Name == "" && slices.ContainsFunc(found, func(s savedImage) bool {
		return !slices.Equal(s.RepoTags, found[0].RepoTags) || len(s.RepoTags) == 0
	})
	switch {
	case len(found) == 0:
		return nil, &UsageError{Msg: fmt.Sprintf("the archive holds no image %q", ref.Name), Hint: "it holds " + savedNames(saved)}
	case len(found) > 1 && several:
		return nil, &UsageError{Msg: "the archive holds several images: " + savedNames(saved), Hint: "select one: docker-archive:FILE:NAME:TAG, or :@0 for the first"}
	case len(found) > maxSavedImages:
		return nil, fmt.Errorf("%d images of one name are more than %d", len(found), maxSavedImages)
	}
	return found, nil
}

// sameTag compares references as the engine does: app is
// docker.io/library/app:latest.
func sameTag(a, b string) bool {
	tagA, errA := name.NewTag(a)
	tagB, errB := name.NewTag(b)
	return a == b || errA == nil && errB == nil && tagA.Name() == tagB.Name()
}

// savedNames lists what an archive holds, for a message.
func savedNames(saved []savedImage) string {
	const most = 20
	var list []string
	for i, s := range saved {
		if i == most {
			return strings.Join(list, ", ") + fmt.Sprintf(" and %d more", len(saved)-most)
		}
		if len(s.RepoTags) > 0 {
			list = append(list, fmt.Sprintf("%.100q", s.RepoTags[0]))
		} else {
			list = append(list, fmt.Sprintf("@%d", i))
		}
	}
	return strings.Join(list, ", ")
}

// dockerArchive is an opened archive with the images selected in it.
type dockerArchive struct {
	ref     string
	archive *archive
	images  []savedImage
}

// tree implements Source.tree.
func (d *dockerArchive) tree(ctx context.Context) (*tree, error) {
	t := &tree{}
	var refused error
	for _, s := range d.images {
		img, err := d.load(ctx, s)
		switch {
		case err == nil:
			n := &node{digest: img.Digest, platform: img.Platform, load: func(context.Context) (*Image, error) { return img, nil }}
			t.roots = append(t.roots, entry{node: n})
		case len(d.images) == 1 || ctx.Err() != nil:
			return nil, err
		default:
			t.notes = append(t.notes, fmt.Sprintf("an image of the archive was left out: %v", err))
			refused = err
		}
	}
	if len(t.roots) == 0 {
		return nil, refused
	}
	return t, nil
}

// load reads one image: with the manifest that Docker 25 and newer store
// beside it, if there is one that is complete, else from its members.
func (d *dockerArchive) load(ctx context.Context, s savedImage) (*Image, error) {
	config, err := d.config(s)
	if err != nil {
		return nil, fmt.Errorf("reading %s: config: %w", d.ref, err)
	}
	img, note, err := d.stored(ctx, digestOf(config))
	if err != nil {
		return nil, err
	}
	if img == nil {
		if img, err = d.classic(s, config); err != nil {
			return nil, err
		}
	}
	if note != "" {
		img.Notes = append(img.Notes, note)
	}
	img.Names = slices.Clone(s.RepoTags)
	return img, nil
}

// configName matches the names that carry the config's digest: those of
// docker save before and since version 25, and of crane.
var configName = regexp.MustCompile(`^(?:sha256:|blobs/sha256/)?([0-9a-f]{64})(?:\.json)?$`)

// config reads an image's config and verifies the digest that its name is.
func (d *dockerArchive) config(s savedImage) ([]byte, error) {
	raw, err := d.archive.read(s.Config, maxConfigSize)
	if err != nil {
		return nil, err
	}
	if m := configName.FindStringSubmatch(path.Clean(s.Config)); m != nil && digestOf(raw).Hex != m[1] {
		return nil, fmt.Errorf("%.200q has other content: its digest is %s", s.Config, digestOf(raw))
	}
	return raw, nil
}

// stored looks for a manifest of the config in the layout that the archive may
// also be. The note says why a layout was of no use: manifest.json decides, and
// some versions of Docker wrote a wrong index beside it. A manifest that is
// refused is an error, however.
func (d *dockerArchive) stored(ctx context.Context, config v1.Hash) (img *Image, note string, err error) {
	if !d.archive.has(layoutIndex) {
		return nil, "", nil
	}
	raw, err := d.archive.read(layoutIndex, maxManifestSize)
	if err == nil {
		var index indexDoc
		if index, err = parseIndex(raw); err == nil {
			w := &walk{store: layoutStore{d.archive}, ref: d.ref}
			img, err = w.byConfig(ctx, index.Manifests, config, map[v1.Hash]bool{}, 0)
		}
	}
	var refused *HintError
	if err == nil || errors.As(err, &refused) && !errors.Is(err, fs.ErrNotExist) {
		return img, "", err
	}
	return nil, fmt.Sprintf("the archive's %s was not used: %v", layoutIndex, err), nil
}

// byConfig finds the image with a config among descriptors and below them. It
// passes over what is absent, and over what is no image.
func (w *walk) byConfig(ctx context.Context, among []descriptor, config v1.Hash, seen map[v1.Hash]bool, depth int) (*Image, error) {
	for _, desc := range among {
		if seen[desc.Digest] || !w.store.has(desc.Digest) || depth > maxIndexDepth {
			continue
		}
		seen[desc.Digest] = true
		if w.documents++; w.documents > maxDocuments {
			return nil, fmt.Errorf("more than %d manifests", maxDocuments)
		}
		raw, err := w.document(ctx, desc)
		if err != nil {
			return nil, err
		}
		if desc.MediaType.IsIndex() {
			index, err := parseIndex(raw)
			if err != nil {
				return nil, err
			}
			if img, err := w.byConfig(ctx, index.Manifests, config, seen, depth+1); img != nil || err != nil {
				return img, err
			}
			continue
		}
		if c, err := configOf(raw); err == nil && c.Digest == config {
			return w.image(ctx, desc, raw)
		}
	}
	return nil, nil
}

// configOf returns the config's descriptor of a manifest, whatever else is in
// it.
func configOf(manifest []byte) (descriptor, error) {
	doc, err := parseDocument(manifest)
	if err != nil {
		return descriptor{}, err
	}
	return requiredDescriptor(doc, "config")
}

// classic reads an image from the members that manifest.json names.
func (d *dockerArchive) classic(s savedImage, config []byte) (*Image, error) {
	sizes := make([]int64, len(s.Layers))
	for i, file := range s.Layers {
		m, err := d.archive.find(file)
		if err != nil {
			return nil, fmt.Errorf("reading %s: layer %d: %w", d.ref, i+1, missingMember(file, err))
		}
		sizes[i] = m.size
	}
	img, err := newClassicImage(d.ref, config, sizes)
	if err != nil {
		return nil, err
	}
	for i, file := range s.Layers {
		img.Layers[i].Open = func(context.Context) (io.ReadCloser, error) { return d.archive.open(file) }
	}
	return img, nil
}

// missingMember names the digest where a missing layer's file name is one.
func missingMember(file string, err error) error {
	dir, hex := path.Split(path.Clean(file))
	if h, parseErr := v1.NewHash("sha256:" + hex); parseErr == nil && dir == layoutBlobs+"/sha256/" {
		return missingBlob(h, err)
	}
	return err
}

// writeDockerArchive writes what docker load and skopeo read: manifest.json,
// the config and the layers, named by digests. The same image gives the same
// bytes.
func writeDockerArchive(ctx context.Context, target Ref, img *Image, o Options) (string, error) {
	tags, err := repoTags(target, o)
	if err != nil {
		return "", err
	}
	layers, err := savedLayers(ctx, img)
	if err != nil {
		return "", err
	}
	err = writeArchive(ctx, target, nil, o, func(tw *tarWriter) error { return tw.saved(ctx, img.Config, layers, tags, o.TempDir) })
	if err != nil {
		return "", err
	}
	return digestOf(img.Config).String(), nil
}

// savedLayers are the layers of an image as tarWriter.saved takes them.
func savedLayers(ctx context.Context, img *Image) ([]Layer, error) {
	layers := make([]Layer, len(img.Layers))
	for i, l := range img.Layers {
		if l.Foreign {
			return nil, &HintError{Err: fmt.Errorf("layer %d (%s) is foreign, and a docker-archive holds every layer", i+1, l.Digest), Hint: "write to a registry or an OCI layout"}
		}
		var err error
		if layers[i], err = identify(ctx, l); err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.DiffID, err)
		}
	}
	return layers, nil
}

// repoTags are the references that docker load gives to the image.
func repoTags(target Ref, o Options) ([]string, error) {
	if strings.HasPrefix(target.Name, "@") {
		return nil, &UsageError{Msg: fmt.Sprintf("%s names the number of an image; a target is written under a name", target), Hint: "write docker-archive:FILE:NAME:TAG"}
	}
	if target.Name != "" {
		return []string{target.Name}, nil
	}
	return o.Names, nil
}

// saved writes the members of a docker-archive.
func (tw *tarWriter) saved(ctx context.Context, config []byte, layers []Layer, tags []string, tempDir string) error {
	s := savedImage{Config: digestOf(config).Hex + ".json", RepoTags: tags, Layers: []string{}}
	for _, l := range layers {
		s.Layers = append(s.Layers, l.DiffID.Hex+".tar")
	}
	manifest, err := json.Marshal([]savedImage{s})
	if err != nil {
		return err
	}
	if err := tw.document(savedManifest, manifest); err != nil {
		return err
	}
	if err := tw.document(s.Config, config); err != nil {
		return err
	}
	written := map[v1.Hash]bool{}
	for i, l := range layers {
		if written[l.DiffID] {
			continue
		}
		written[l.DiffID] = true
		if err := tw.layer(ctx, s.Layers[i], l, tempDir); err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, l.DiffID, err)
		}
	}
	return nil
}

// layer writes a layer as it is stored. docker load takes gzip too, but zstd
// only since version 23: that is inflated, by way of a spool since a header
// has the size.
func (tw *tarWriter) layer(ctx context.Context, name string, l Layer, tempDir string) error {
	rc, err := openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	r := bufio.NewReaderSize(rc, copyBuffer)
	head, err := r.Peek(magicLen)
	if err != nil && err != io.EOF {
		return err
	}
	if sniff(head) != "zstd" {
		return tw.stream(name, l.Size, r)
	}
	spool, err := createSpool(tempDir)
	if err != nil {
		return err
	}
	defer spool.Close()
	size, err := inflateVerified(spool, r, l)
	if err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return tw.stream(name, size, spool)
}
