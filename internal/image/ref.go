package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Transport is where an image is kept and in which form.
type Transport string

// The transports, spelled as in containers-transports(5).
const (
	// Registry is a repository of the distribution API.
	Registry Transport = "docker"
	// OCI is a directory with an OCI image layout.
	OCI Transport = "oci"
	// OCIArchive is an OCI image layout as a tar file or stream.
	OCIArchive Transport = "oci-archive"
	// DockerArchive is what docker save writes and docker load reads.
	DockerArchive Transport = "docker-archive"
	// DockerDaemon is a Docker engine, the one that docker would use.
	DockerDaemon Transport = "docker-daemon"
	// Stdio is standard input, whose form is detected, or standard output,
	// which gets a docker-archive.
	Stdio Transport = "-"
)

// stdioPath is the Path of a reference to a stream.
const stdioPath = "-"

// unsupported are transports of other tools, which would pass for the
// repository of a registry reference.
var unsupported = []string{"containers-storage", "dir", "docker-tar", "ostree", "sif", "tarball"}

// Ref names an image, or the place of one that is to be written.
type Ref struct {
	Transport Transport
	// Path is the file or directory as given; "-" for a stream; empty for a
	// registry and an engine.
	Path string
	// Name selects the image. Registry: the whole reference. OCI and
	// OCIArchive: an org.opencontainers.image.ref.name, or "@" and the digest
	// of a manifest. DockerArchive: NAME:TAG, or "@" and the number of the
	// image in the archive, from 0. DockerDaemon: NAME:TAG, NAME@DIGEST, or an
	// ID or the beginning of one. Empty where nothing is selected.
	Name string
}

// ParseRef reads a transport and a reference as the command line has them.
// Errors are of type *UsageError.
func ParseRef(s string) (Ref, error) {
	if s == "" {
		return Ref{}, &UsageError{Msg: "an image reference is empty"}
	}
	if s == stdioPath {
		return Ref{Transport: Stdio, Path: stdioPath}, nil
	}
	if bare, ok := strings.CutPrefix(s, "docker://"); ok {
		return parseRegistry(s, bare)
	}
	transport, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok:
	case slices.Contains(unsupported, transport):
		return Ref{}, &UsageError{
			Msg:  fmt.Sprintf("%q: the transport %s: is not supported", s, transport),
			Hint: fmt.Sprintf("transports are "+transports+"; a repository of that name is docker://%s", s),
		}
	case Transport(transport) == DockerDaemon:
		return parseDaemon(s, rest)
	case Transport(transport) == OCI, Transport(transport) == OCIArchive, Transport(transport) == DockerArchive:
		return parseFile(s, Transport(transport), rest)
	}
	if err := checkBare(s); err != nil {
		return Ref{}, err
	}
	return parseRegistry(s, s)
}

// checkBare refuses an argument without transport that means a file.
func checkBare(s string) error {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return &UsageError{
			Msg:  fmt.Sprintf("%q is a URL, not an image reference", s),
			Hint: fmt.Sprintf("a registry reference has no scheme: docker://%s", rest),
		}
	}
	info, err := os.Stat(s)
	if err == nil && info.IsDir() {
		return bareFile(s, "names a directory", "oci:"+s+" for an OCI image layout")
	}
	files := fmt.Sprintf("docker-archive:%s for what docker save wrote, oci-archive:%s for an OCI image layout in a tar file", s, s)
	switch {
	case err == nil:
		return bareFile(s, "names a file", files)
	case !looksLikeFile(s):
		return nil
	case hasTarSuffix(s):
		return bareFile(s, "looks like a file", files)
	default:
		return bareFile(s, "looks like a path", fmt.Sprintf("oci:%s for a directory with an OCI image layout, docker-archive:%s for a file", s, s))
	}
}

func bareFile(s, is, forms string) error {
	hint := "write " + forms
	if _, err := name.ParseReference(s); err == nil {
		hint += ", docker://" + s + " for a registry"
	}
	return &UsageError{Msg: fmt.Sprintf("%q %s and has no transport", s, is), Hint: hint}
}

// looksLikeFile tells from its text alone that a bare argument means a file.
func looksLikeFile(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") || hasTarSuffix(s)
}

func hasTarSuffix(s string) bool {
	return strings.HasSuffix(s, ".tar") || strings.HasSuffix(s, ".tgz") || strings.HasSuffix(s, ".tar.gz")
}

func parseRegistry(s, reference string) (Ref, error) {
	_, err := name.ParseReference(reference)
	if err == nil && strings.Contains(reference, "://") {
		// The library takes "http:" for a host with an empty port.
		err = errors.New("it holds a second scheme")
	}
	if err != nil {
		return Ref{}, &UsageError{
			Msg:  fmt.Sprintf("%q is not a registry reference: %v", s, err),
			Hint: nameHint(reference),
		}
	}
	return Ref{Transport: Registry, Name: reference}, nil
}

// nameHint says how a name that does not parse is to be written.
func nameHint(reference string) string {
	path, tag, _ := strings.Cut(reference, "@")
	if _, err := name.ParseReference(strings.ToLower(path)); err == nil && tag == "" {
		return "repository names are lower case"
	}
	return "write [HOST[:PORT]/]NAME[:TAG][@DIGEST]; transports are " + transports
}

// transports lists those that there are, for hints.
const transports = "docker://, oci:, oci-archive:, docker-archive:, docker-daemon: and -"

// parseFile reads FILE or DIR and what follows its colon.
func parseFile(s string, transport Transport, rest string) (Ref, error) {
	path, sel := splitPath(rest)
	r := Ref{Transport: transport, Path: path, Name: sel}
	// DIR@sha256:HEX has its first colon within the digest.
	if transport != DockerArchive {
		if i := strings.LastIndexByte(path, '@'); i >= 0 {
			if d, err := v1.NewHash(path[i+1:] + ":" + sel); err == nil {
				r.Path, r.Name = path[:i], "@"+d.String()
			}
		}
	}
	switch {
	case r.Path == "":
		return Ref{}, &UsageError{Msg: fmt.Sprintf("%q names no file", s), Hint: "write " + string(transport) + ":FILE[:NAME]"}
	case strings.ContainsRune(s, 0):
		return Ref{}, &UsageError{Msg: fmt.Sprintf("%q holds a NUL byte", s)}
	case transport == OCI && r.Path == stdioPath:
		return Ref{}, &UsageError{
			Msg:  "oci:- names a stream, and an OCI image layout is a directory",
			Hint: "write oci-archive:-, or oci:./- for a directory of that name",
		}
	}
	if err := checkSelection(s, &r); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// splitPath cuts at the first colon that does not follow a drive letter.
func splitPath(s string) (path, sel string) {
	drive := 0
	if len(s) >= 3 && s[1] == ':' && (s[2] == '\\' || s[2] == '/') && isLetter(s[0]) {
		drive = 2
	}
	path, sel, _ = strings.Cut(s[drive:], ":")
	return s[:drive] + path, sel
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// checkSelection checks what selects one image in a file; the tag that docker
// would add to the name of an archive's image is added.
func checkSelection(s string, r *Ref) error {
	number, at := strings.CutPrefix(r.Name, "@")
	switch {
	case r.Name == "":
		return nil
	case r.Transport == DockerArchive && at:
		if n, err := strconv.Atoi(number); err != nil || n < 0 || strconv.Itoa(n) != number {
			return &UsageError{Msg: fmt.Sprintf("%q: %q is not the number of an image", s, r.Name), Hint: "write :@0 for the first image of the archive"}
		}
	case r.Transport == DockerArchive:
		tag, err := name.NewTag(r.Name)
		if err != nil {
			return &UsageError{Msg: fmt.Sprintf("%q: %q is not NAME:TAG: %v", s, r.Name, err), Hint: "write docker-archive:FILE:NAME:TAG, or :@0 for the first image of the archive"}
		}
		if !strings.HasSuffix(r.Name, ":"+tag.TagStr()) {
			r.Name += ":" + tag.TagStr()
		}
	case at:
		if _, err := v1.NewHash(number); err != nil {
			return &UsageError{Msg: fmt.Sprintf("%q: %q is not a digest", s, number), Hint: "write @sha256: and 64 lower-case hexadecimal digits"}
		}
	}
	return nil
}

// String returns a reference that ParseRef reads as r again, in the shortest
// form.
func (r Ref) String() string {
	switch r.Transport {
	case Stdio:
		return stdioPath
	case Registry:
		transport, _, _ := strings.Cut(r.Name, ":")
		if looksLikeFile(r.Name) || slices.Contains(unsupported, transport) || isTransport(transport) {
			return "docker://" + r.Name
		}
		return r.Name
	case DockerDaemon:
		return string(DockerDaemon) + ":" + r.Name
	}
	s := string(r.Transport) + ":" + r.Path
	if r.Name != "" {
		s += ":" + r.Name
	}
	return s
}

func isTransport(s string) bool {
	return slices.Contains([]Transport{OCI, OCIArchive, DockerArchive, DockerDaemon}, Transport(s))
}

// IsStdio tells whether r is standard input or output.
func (r Ref) IsStdio() bool { return r.Path == stdioPath && r.Transport != OCI }

// Digest returns the manifest digest that r selects in an OCI image layout;
// ok is false where it selects none. Such a reference cannot be written to.
func (r Ref) Digest() (d v1.Hash, ok bool) {
	text, ok := strings.CutPrefix(r.Name, "@")
	if !ok || r.Transport != OCI && r.Transport != OCIArchive {
		return v1.Hash{}, false
	}
	d, err := v1.NewHash(text)
	return d, err == nil
}

// SameFile tells whether a and b are one local file, under whatever names, or
// one entry of one image layout directory. Streams are never the same.
func SameFile(a, b Ref) bool {
	if !a.isLocal() || !b.isLocal() || !samePath(a.Path, b.Path) {
		return false
	}
	return a.Transport != OCI || b.Transport != OCI || a.Name == b.Name
}

// SameTag tells whether a and b are one tag of one registry repository, or of
// the engine. An ID is no tag.
func SameTag(a, b Ref) bool {
	if a.Transport == DockerDaemon && b.Transport == DockerDaemon {
		x, okX := engineTag(a.Name)
		y, okY := engineTag(b.Name)
		return okX && okY && sameTag(x, y)
	}
	if a.Transport != Registry || b.Transport != Registry {
		return false
	}
	x, errX := name.NewTag(strings.TrimPrefix(a.Name, "//"))
	y, errY := name.NewTag(strings.TrimPrefix(b.Name, "//"))
	return errX == nil && errY == nil && x.Name() == y.Name()
}

func (r Ref) isLocal() bool {
	return !r.IsStdio() && (r.Transport == OCI || r.Transport == OCIArchive || r.Transport == DockerArchive)
}

func samePath(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}

// Host returns the registry that r is in, with its port; empty for what is in none.
func (r Ref) Host() string {
	if r.Transport != Registry {
		return ""
	}
	parsed, err := name.ParseReference(r.Name)
	if err != nil {
		return ""
	}
	return parsed.Context().RegistryStr()
}

// FullName returns a registry reference with its registry and repository spelled
// out, as annotations and BuildKit do: docker.io/library/debian:12. A digest beside
// a tag is left out.
func (r Ref) FullName() string {
	tagged, digest, _ := strings.Cut(r.Name, "@")
	parsed, err := name.ParseReference(tagged)
	if err != nil {
		return r.Name
	}
	repo := parsed.Context().Name()
	if rest, ok := strings.CutPrefix(repo, name.DefaultRegistry+"/"); ok {
		repo = "docker.io/" + rest
	}
	if digest != "" && repositoryTyped(tagged) == tagged {
		return repo + "@" + digest
	}
	return repo + ":" + parsed.Identifier()
}
