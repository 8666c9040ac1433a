package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	// Credentials tells whether credentials may be used for a registry, given
	// with its port as in "registry.example:5000"; Docker Hub is
	// "index.docker.io". One for which it is false is asked anonymously. Nil:
	// they may be used everywhere.
	Credentials func(host string) bool
	// Retries is how often a request that failed, or a transfer that broke off,
	// is tried again since the last progress, with growing waits: 0 is the
	// default of 3, a negative number means never.
	Retries int
	// Waiting, where set, is told why and for how long there is a wait before
	// something is tried again.
	Waiting func(error, time.Duration)
	// StallTimeout is how long a registry may send or take no byte before the
	// attempt counts as failed; 0 is 60 seconds.
	StallTimeout time.Duration
	// Expect is the digest that the tag of a registry target must have until it
	// is replaced; the zero value checks nothing.
	Expect v1.Hash
	// ExpectID is the same for an engine: the ID that the target's tag must have.
	ExpectID string
	// Pushed is shared by calls of Upload and Write for one target; nil: each
	// asks the registry itself.
	Pushed *Pushed
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

	// pacing is how time passes for the registry client.
	pacing pacing
}

// Source is an opened image source. Its reference is resolved: whatever
// happens to a tag later, all of its reads are of the same content.
type Source struct {
	tree   func(context.Context) (*tree, error)
	closer io.Closer
	// engineID is what an engine calls the image; empty for other sources.
	engineID string
	// registry is nil for other sources.
	registry *registryStore
}

// catalog is what a source offers to choose from.
type catalog struct {
	images []*node
	// notes tell what is beside the images, attestations for one.
	notes []string
	// absent tells which images the source names and does not hold.
	absent []string
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
	case DockerDaemon:
		return openDaemon(ctx, ref, o)
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
	t, err := s.tree(ctx)
	if err != nil {
		return nil, err
	}
	c, err := t.catalog()
	if err != nil {
		return nil, err
	}
	chosen, notes, err := c.choose(want)
	if err != nil {
		return nil, err
	}
	img, err := chosen.image(ctx)
	if err != nil {
		return nil, err
	}
	img.Notes = slices.Concat(notes, img.Notes)
	return img, nil
}

// choose selects one image; its notes tell what was left out.
func (c *catalog) choose(want *v1.Platform) (*node, []string, error) {
	if want != nil {
		return c.match(*want)
	}
	notes := slices.Clone(c.notes)
	for _, p := range c.absent {
		notes = append(notes, p+" was left out")
	}
	var run, windows []*node
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
		return nil, nil, &HintError{Err: errors.New("the source holds no image" + c.absence()), Hint: "name another image"}
	}
	return nil, nil, &UsageError{Msg: "the source holds images for several platforms: " + platforms(run), Hint: "select one with --platform"}
}

// match selects the image for a platform: the one with the same variant, or,
// where no variant is asked for, the only one there is.
func (c *catalog) match(want v1.Platform) (*node, []string, error) {
	var exact, other []*node
	for _, i := range c.images {
		same, similar := i.matches(want)
		switch {
		case same:
			exact = append(exact, i)
		case similar:
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
		return nil, nil, &UsageError{
			Msg:  fmt.Sprintf("the source holds no image for %q%s", want, c.absence()),
			Hint: "it holds " + cmp.Or(platforms(c.images), "none"),
		}
	}
	return nil, nil, &UsageError{Msg: fmt.Sprintf("several images match %q: %s", want, platforms(found)), Hint: "name the variant with --platform"}
}

// matches tells whether an image is for a platform, or for one that differs from it
// only by a variant that was not asked for.
func (n *node) matches(want v1.Platform) (same, similar bool) {
	spec := normalize(want)
	for _, p := range n.platforms() {
		have := normalize(p)
		if have.OS != spec.OS || have.Architecture != spec.Architecture || want.OSVersion != "" && want.OSVersion != have.OSVersion {
			continue
		}
		same = same || have.Variant == spec.Variant
		similar = similar || want.Variant == ""
	}
	return same, similar
}

// absence words what the source names and does not hold.
func (c *catalog) absence() string {
	if len(c.absent) == 0 {
		return ""
	}
	return strings.TrimSuffix(" ("+strings.Join(c.absent, "; "), ",") + ")"
}

// firstOfEach keeps the first image for each platform: the first matching
// entry of an index should be used.
func firstOfEach(images []*node) (kept []*node, notes []string) {
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
func platforms(images []*node) string {
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
