package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const deleteStep = "DELETE app/upload"

// made is a layer that a test makes, a part at a time.
type made struct {
	data []byte

	mu      sync.Mutex
	changed *sync.Cond
	there   int
	err     error
}

func newMade(data []byte) *made {
	m := &made{data: data}
	m.changed = sync.NewCond(&m.mu)
	return m
}

// grow tells that n bytes are there, or that no more will be.
func (m *made) grow(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.there, m.err = n, err
	m.changed.Broadcast()
}

func (m *made) wait(ctx context.Context, n int) (int, error) {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.err = context.Cause(ctx)
		m.changed.Broadcast()
	})
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.there <= n && m.there < len(m.data) && m.err == nil {
		m.changed.Wait()
	}
	return m.there, m.err
}

// growing is the layer as it is uploaded.
func (m *made) growing() Growing {
	return Growing{
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			return io.NopCloser(&madeReader{ctx, m, 0}), nil
		},
		Complete: func(ctx context.Context) (Layer, error) {
			_, err := m.wait(ctx, len(m.data))
			l, _ := layerOf(m.data)
			return l, err
		},
	}
}

type madeReader struct {
	ctx context.Context
	m   *made
	off int
}

func (r *madeReader) Read(p []byte) (int, error) {
	n, err := r.m.wait(r.ctx, r.off)
	if err != nil {
		return 0, err
	}
	if r.off == n {
		return 0, io.EOF
	}
	n = copy(p, r.m.data[r.off:n])
	r.off += n
	return n, nil
}

// TestUploadGrowing has the first half of a layer at the registry before the second is
// made, and then ends it in every way.
func TestUploadGrowing(t *testing.T) {
	const size = 5 << 20
	lost := errors.New("the disk is full")
	first := func(do hook) hook { return once(1, http.MethodPatch, "/uploads/", do) }
	for _, tc := range []struct {
		name string
		// then is what the registry does when it has the first half.
		then  func(*fakeServer) hook
		fails error
		want  []string
		wait  []int
		there bool
	}{
		{"whole", nil, nil, []string{postStep, patchStep, headStep, putStep}, nil, true},
		{"broken in the middle", func(*fakeServer) hook { return breaks }, nil,
			[]string{postStep, patchStep, headStep, headStep, askStep, patchStep + " 2621440-5242879", putStep}, nil, true},
		{"taken, and half of it lost", func(*fakeServer) hook { return says(202) }, nil,
			[]string{postStep, patchStep, headStep, putStep, headStep, postStep, patchStep, putStep}, []int{1}, true},
		{"a length is asked for", func(*fakeServer) hook { return says(411) }, nil,
			[]string{postStep, patchStep, headStep, headStep, askStep, patchStep + " 2621440-5242879", putStep}, nil, true},
		{"it was there before", func(s *fakeServer) hook { return says(202) }, nil, []string{postStep, patchStep, headStep, deleteStep}, nil, true},
		{"it is never completed", func(*fakeServer) hook { return breaks }, lost, []string{postStep, patchStep, deleteStep}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMade(noise(size))
			m.grow(size/2, nil)
			half := make(chan struct{})
			s := newServer(t, nil)
			s.hook = first(func(w http.ResponseWriter, r *http.Request) bool {
				// These bytes come before the others are made.
				begun := make([]byte, size/2)
				if _, err := io.ReadFull(r.Body, begun); err != nil || !bytes.Equal(begun, m.data[:size/2]) {
					t.Errorf("the first half did not come: %v", err)
				}
				if tc.name == "it was there before" {
					s.put("app", m.data)
				}
				close(half)
				if tc.then == nil {
					r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(begun), r.Body))
					return false
				}
				id := r.URL.Path[len("/v2/app/blobs/uploads/"):]
				s.mu.Lock()
				s.uploads[id] = begun
				s.mu.Unlock()
				return tc.then(s)(w, r)
			})
			go func() {
				<-half
				if tc.fails != nil {
					m.grow(size/2, tc.fails)
					return
				}
				m.grow(size, nil)
			}()
			o, waits := quick()
			o.Pushed = &Pushed{}
			if err := UploadGrowing(t.Context(), s.ref("app:1"), m.growing(), o); err != nil {
				t.Fatal(err)
			}
			if got := s.has("app", m.data); got != tc.there || o.Pushed.has(s.repo("app"), digestOf(m.data)) != tc.there {
				t.Errorf("the blob is there: %t, remembered: %t", got, !got)
			}
			wantList(t, s.requests(), tc.want...)
			waits.want(t, tc.wait...)
		})
	}
}

// TestUploadGrowingRefused ends the work for a registry that takes nothing, before the
// layer is complete.
func TestUploadGrowingRefused(t *testing.T) {
	s := newServer(t, once(1, http.MethodPost, "/uploads/", says(403)))
	err := UploadGrowing(t.Context(), s.ref("app:1"), newMade(noise(9)).growing(), Options{})
	wantError(t, err, "writing "+s.host, true)
	wantHint(t, err, "docker login")
	wantList(t, s.requests(), postStep)
}

// TestUploadGrowingInterrupted ends with its context.
func TestUploadGrowingInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	m := newMade(noise(1 << 20))
	m.grow(1<<19, nil)
	s := newServer(t, once(1, http.MethodPatch, "/uploads/", func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.ReadFull(r.Body, make([]byte, 1<<19)) // what came is not compared
		cancel(stopped)
		_, _ = io.Copy(io.Discard, r.Body) // until it breaks
		return true
	}))
	o, _ := quick()
	if err := UploadGrowing(ctx, s.ref("app:1"), m.growing(), o); !errors.Is(err, stopped) {
		t.Errorf("error %v", err)
	}
	if (o.Pushed).has(s.repo("app"), v1.Hash{}) || s.has("app", m.data) {
		t.Error("something was written")
	}
}
