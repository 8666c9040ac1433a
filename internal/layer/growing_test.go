package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"slim/internal/flatten"
)

// TestGrowing reads a layer while it is written: the first bytes are there before the
// last file is begun, and all of them in the end.
func TestGrowing(t *testing.T) {
	plain := large(t)
	s, err := Read(t.Context(), []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var g *Growing
	read, done := make(chan []byte), make(chan error, 1)
	begun := func(growing *Growing) {
		g = growing
		go func() {
			rc, err := g.Open(t.Context())
			if err != nil {
				done <- err
				return
			}
			first := make([]byte, 4096)
			if _, err = io.ReadFull(rc, first); err == nil {
				read <- first
				var rest []byte
				rest, err = io.ReadAll(rc)
				read <- rest
			}
			done <- err
		}()
	}
	var all []byte
	body := func(n *flatten.Inode) (*io.SectionReader, error) {
		if n.Size == 5<<20 { // the last file
			all = append(all, <-read...)
		}
		return s.Body(n)
	}
	w, err := Write(t.Context(), changes(t, s).Items(), body, WriteOptions{TempDir: t.TempDir(), Begun: begun})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	all = append(all, <-read...)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	rc, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(all, want) {
		t.Errorf("%d bytes came while it grew, want %d; %v", len(all), len(want), err)
	}
	if got, err := g.Complete(t.Context()); got != w || err != nil {
		t.Errorf("complete is %v, %v", got, err)
	}
}

// TestGrowingFails tells readers why a layer is not completed.
func TestGrowingFails(t *testing.T) {
	lost := errors.New("gone")
	plain := large(t)
	s, err := Read(t.Context(), []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var g *Growing
	body := func(*flatten.Inode) (*io.SectionReader, error) { return nil, lost }
	_, err = Write(t.Context(), changes(t, s).Items(), body, WriteOptions{TempDir: t.TempDir(), Begun: func(growing *Growing) { g = growing }})
	if !errors.Is(err, lost) {
		t.Fatalf("error %v", err)
	}
	rc, _ := g.Open(t.Context()) // never fails
	_, readErr := io.ReadAll(rc)
	if _, err := g.Complete(t.Context()); !errors.Is(err, lost) || !errors.Is(readErr, lost) {
		t.Errorf("complete: %v; reading: %v", err, readErr)
	}
}

// TestGrowingStops ends a reader with its context, however long the layer takes.
func TestGrowingStops(t *testing.T) {
	f, err := TempFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	g := newGrowing(f)
	rc, _ := g.Open(ctx) // never fails
	if _, err := rc.Read(make([]byte, 1)); !errors.Is(err, stopped) {
		t.Errorf("error %v", err)
	}
	if _, err := g.Complete(ctx); !errors.Is(err, stopped) {
		t.Errorf("error %v", err)
	}
}
