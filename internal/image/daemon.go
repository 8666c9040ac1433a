package image

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// unwanted is the repository of the tags by which images are removed that were
// loaded and are not to stay.
const unwanted = "slim-unwanted"

// removeTime is how long a removal may last after the end of a run's context.
const removeTime = 10 * time.Second

// engineName is the grammar of an engine's references, but for hosts that are
// IPv6 addresses: a name, a tag, a digest. Nothing of it needs escapes in a
// URL, see
// https://github.com/distribution/reference/blob/v0.6.0/reference.go
var engineName = regexp.MustCompile(`^((?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?` +
	pathComponent + `(?:/` + pathComponent + `)*)(:[0-9A-Za-z_][0-9A-Za-z_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

const pathComponent = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`

// hexDigits are what an engine takes for an ID, or the beginning of one, where
// it has no image of that name.
var hexDigits = regexp.MustCompile(`^(?:sha256:)?[0-9a-f]{1,64}$`)

// mayBeID tells whether only the engine knows if a name is one.
func mayBeID(name string) bool { return hexDigits.MatchString(name) }

// engineTag returns a name with its tag, latest where it has none; ok is false
// for an ID and for a digest.
func engineTag(name string) (tag string, ok bool) {
	m := engineName.FindStringSubmatch(name)
	switch {
	case m == nil || m[3] != "" || strings.HasPrefix(name, "sha256:"):
		return "", false
	case m[2] == "":
		return name + ":latest", true
	}
	return name, true
}

// parseDaemon reads the name or ID of an engine's image.
func parseDaemon(s, name string) (Ref, error) {
	if !mayBeID(name) {
		if !engineName.MatchString(name) || len(name) > maxEngineName {
			return Ref{}, &UsageError{Msg: fmt.Sprintf("%q: %q is not the name of an image", s, name), Hint: "write docker-daemon:NAME:TAG, or an ID that docker images lists"}
		}
		if tag, ok := engineTag(name); ok {
			name = tag
		}
	}
	return Ref{Transport: DockerDaemon, Name: name}, nil
}

// maxEngineName is the length in bytes of the longest name that is sent: 255
// for the name, with a tag and a digest.
const maxEngineName = 255 + 1 + 128 + 1 + 71

// targetTag returns the tag that an image is written under.
func targetTag(target Ref) (string, error) {
	tag, ok := engineTag(target.Name)
	if !ok || mayBeID(target.Name) {
		hint := "write docker-daemon:NAME:TAG"
		if ok && len(target.Name) < 12 {
			hint = fmt.Sprintf("for a name write docker-daemon:%s", tag)
		}
		return "", &UsageError{Msg: fmt.Sprintf("%s names an image by its ID or digest; a target is written under a tag", target), Hint: hint}
	}
	return tag, nil
}

// checkDaemonTarget finds what keeps an image from being written to the engine
// and can be known without a request: a name that is none, no engine set up, a
// local engine that does not run.
func checkDaemonTarget(target Ref) error {
	if _, err := targetTag(target); err != nil {
		return err
	}
	at, err := findEngine()
	if err == nil && at.socket != "" {
		var conn net.Conn
		if conn, err = net.DialTimeout("unix", at.socket, engineDial); err == nil {
			return conn.Close()
		}
		err = (&engine{at: at}).explain(context.Background(), err)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return nil
}

// openDaemon opens an image of the engine, by way of a spool of the archive
// that docker save gives: an engine hands out whole images only.
func openDaemon(ctx context.Context, ref Ref, o Options) (*Source, error) {
	e, err := openEngine(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	defer e.close()
	s, err := e.open(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	return s, nil
}

func (e *engine) open(ctx context.Context, ref Ref, o Options) (*Source, error) {
	body, id, tags, err := e.save(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	a, err := spoolArchive(ctx, body, o.TempDir)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &HintError{Err: fmt.Errorf("the engine's archive is cut off: %w", err), Hint: "the engine's log says why; it needs space for a copy of the image"}
	}
	if err != nil {
		return nil, err
	}
	saved, err := readSaved(a)
	if err == nil && len(saved) > maxSavedImages {
		err = fmt.Errorf("%d images of one name are more than %d", len(saved), maxSavedImages)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	// All that is in the archive is of the image that was asked for: several
	// are its platforms.
	for i := range saved {
		saved[i].RepoTags = tags
	}
	d := &dockerArchive{ref: ref.String(), archive: a, images: saved}
	return &Source{tree: d.tree, closer: a, engineID: id}, nil
}

// writeDaemon loads an image into the engine and returns the ID that the
// engine gives it. The image comes without a tag and gets it last, as a
// manifest is pushed after its blobs: an engine that has an archive loads it to
// its end, whether or not somebody waits, and would set the tag then.
func writeDaemon(ctx context.Context, target Ref, img *Image, o Options) (string, error) {
	tag, err := targetTag(target)
	if err != nil {
		return "", err
	}
	layers, err := savedLayers(ctx, img)
	if err != nil {
		return "", err
	}
	e, err := openEngine(ctx)
	if err != nil {
		return "", err
	}
	defer e.close()
	id, err := e.load(ctx, func(ctx context.Context, w io.Writer) error {
		return writeTar(ctx, w, func(tw *tarWriter) error { return tw.saved(ctx, img.Config, layers, nil, o.TempDir) })
	})
	if err != nil {
		return "", err
	}
	// Without containerd's image store the ID is the config's digest.
	id = cmp.Or(id, digestOf(img.Config).String())
	if err = e.name(ctx, id, tag, o); err != nil {
		return "", errors.Join(err, e.remove(ctx, id))
	}
	return id, nil
}

// name gives a tag to the image of an ID, if it is proved.
func (e *engine) name(ctx context.Context, id, tag string, o Options) error {
	if _, err := e.inspect(ctx, id); err != nil {
		return err
	}
	if o.Prove != nil {
		s, err := e.open(ctx, Ref{Transport: DockerDaemon, Name: id}, o)
		if err != nil {
			return fmt.Errorf("reading back: %w", err)
		}
		defer s.Close()
		if err := s.prove(ctx, nil, o); err != nil {
			return err
		}
	}
	if o.ExpectID != "" {
		now, err := e.inspect(ctx, tag)
		if err != nil {
			return fmt.Errorf("looking at the tag: %w", err)
		}
		if now.ID != o.ExpectID {
			return fmt.Errorf("the tag moved: it was %s and is %s now", o.ExpectID, now.ID)
		}
	}
	return e.tag(ctx, id, tag)
}

// remove removes an image that was loaded, unless it has tags: the same image
// may have been there before. By its ID an image goes with its only tag, so a
// tag that is nobody else's is taken away.
func (e *engine) remove(ctx context.Context, id string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer stop()
	tag := unwanted + ":" + strings.ToLower(rand.Text())
	err := e.tag(ctx, id, tag)
	if err == nil {
		err = e.untag(ctx, tag)
	}
	var answer *engineError
	if err == nil || errors.As(err, &answer) && answer.status == http.StatusNotFound {
		return nil
	}
	return fmt.Errorf("removing the image %s, which has no name: %w", id, err)
}
