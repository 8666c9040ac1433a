package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// TestDownloadResumes breaks a download in every way that it survives.
func TestDownloadResumes(t *testing.T) {
	data := noise(1 << 20)
	part := func(n int, claims int, end hook) hook {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if claims >= 0 {
				w.Header().Set("Content-Length", strconv.Itoa(claims))
			}
			_, _ = w.Write(data[:n]) // the client sees it
			w.(http.Flusher).Flush()
			return end(w, r)
		}
	}
	fine := func(http.ResponseWriter, *http.Request) bool { return true }
	ignores := func(w http.ResponseWriter, _ *http.Request) bool {
		_, err := w.Write(data)
		return err == nil
	}
	const get = http.MethodGet
	for _, tc := range []struct {
		name string
		hook hook
		size int64
		want []string
		wait []int
	}{
		{"whole", nil, 1 << 20, []string{"GET app/blobs/"}, nil},
		{"broken", once(1, get, "/blobs/", part(1000, len(data), breaks)), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-"}, []int{1}},
		{"broken, size unknown", once(1, get, "/blobs/", part(1000, len(data), breaks)), -1,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-"}, []int{1}},
		{"short", once(1, get, "/blobs/", part(1000, -1, fine)), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-"}, []int{1}},
		{"range ignored", anyOf(once(1, get, "/blobs/", part(1000, len(data), breaks)), once(1, get, "/blobs/", ignores)), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-"}, []int{1}},
		{"other range", anyOf(once(1, get, "/blobs/", part(1000, len(data), breaks)), once(1, get, "/blobs/", says(206, "Content-Range", "bytes 0-9/10"))), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-", "GET app/blobs/"}, []int{1, 3}},
		{"range refused", anyOf(once(1, get, "/blobs/", part(1000, len(data), breaks)), once(1, get, "/blobs/", says(416))), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/ bytes=1000-", "GET app/blobs/"}, []int{1, 3}},
		{"refused for a while", between(1, 3, get, "/blobs/", says(503)), 1 << 20,
			[]string{"GET app/blobs/", "GET app/blobs/", "GET app/blobs/", "GET app/blobs/"}, []int{1, 3, 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.hook)
			h := s.put("app", data)
			o, waits := quick()
			rc, err := s.client("app", o).getBlob(t.Context(), h, tc.size)
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			got, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes (%v), want %d", len(got), err, len(data))
			}
			wantList(t, s.requests(), tc.want...)
			waits.want(t, tc.wait...)
		})
	}
}

// TestDownloadProgress breaks a download more often than there are retries, each
// time after some bytes, and then for good.
func TestDownloadProgress(t *testing.T) {
	data := noise(10_000)
	step := func(w http.ResponseWriter, r *http.Request) bool {
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}
		_, _ = w.Write(data[from : from+1000]) // the client sees it
		w.(http.Flusher).Flush()
		if from+1000 == len(data) {
			return true
		}
		panic(http.ErrAbortHandler)
	}
	s := newServer(t, anyOf(between(1, 10, http.MethodGet, "/blobs/", step), between(1, 99, http.MethodGet, "/blobs/", says(503))))
	h := s.put("app", data)
	o, _ := quick()
	o.Retries = 1
	rc, err := s.client("app", o).getBlob(t.Context(), h, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	s.requests()
	if _, err = s.client("app", o).getBlob(t.Context(), h, -1); err == nil {
		t.Error("a blob came from a registry that is never available")
	}
	wantList(t, s.requests(), "GET app/blobs/", "GET app/blobs/")
}

// TestDownloadStalls has a registry that sends no further byte.
func TestDownloadStalls(t *testing.T) {
	data := noise(50_000)
	stalled := make(chan struct{})
	s := newServer(t, once(1, http.MethodGet, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:20_000]) // the client sees it
		w.(http.Flusher).Flush()
		close(stalled)
		<-r.Context().Done()
		return true
	}))
	h := s.put("app", data)
	o, waits := quick()
	clock := newAlarms()
	o.pacing.alarm = clock.new
	o.StallTimeout = 7 * time.Second
	rc, err := s.client("app", o).getBlob(t.Context(), h, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	head := make([]byte, 20_000)
	if _, err := io.ReadFull(rc, head); err != nil {
		t.Fatal(err)
	}
	<-stalled
	go clock.ring()
	rest, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(append(head, rest...), data) {
		t.Errorf("%d bytes (%v)", len(rest), err)
	}
	wantList(t, s.requests(), "GET app/blobs/", "GET app/blobs/ bytes=20000-")
	waits.want(t, 1)
	if clock.last.timeout != 7*time.Second {
		t.Errorf("the timeout is %s", clock.last.timeout)
	}
}

// TestStallIsSaid gives up on a registry that never answers.
func TestStallIsSaid(t *testing.T) {
	asked := make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		close(asked)
		<-r.Context().Done()
		return true
	})
	o, _ := quick()
	o.Retries = -1
	clock := newAlarms()
	o.pacing.alarm = clock.new
	go func() {
		<-asked
		clock.ring()
	}()
	_, err := s.client("app", o).getManifest(t.Context(), "1", "")
	wantError(t, err, "no byte came or went for 1m0s", false)
}

// TestDownloadCancelled ends a download between two bytes, and while it waits to
// try again.
func TestDownloadCancelled(t *testing.T) {
	data := noise(50_000)
	s := newServer(t, once(1, http.MethodGet, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:10]) // the client sees it
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}))
	h := s.put("app", data)
	ctx, cancel := context.WithCancel(t.Context())
	o, _ := quick()
	rc, err := s.client("app", o).getBlob(ctx, h, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := rc.Read(make([]byte, 10)); err != context.Canceled {
		t.Errorf("error %v", err)
	}

	waiting, cancel := context.WithCancel(t.Context())
	o.pacing.wait = func(time.Duration) time.Duration {
		cancel()
		return time.Hour
	}
	refusing := newServer(t, between(1, 99, http.MethodGet, "/blobs/", says(500)))
	if _, err := refusing.client("app", o).getBlob(waiting, h, -1); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string]string{
		"bytes 0-9/10": "0 10 true", "bytes 5-9/10": "5 10 true", "bytes 5-9/*": "5 -1 true",
		"": "bad", "bytes */10": "bad", "bytes 9-5/10": "bad", "bytes 5-10/10": "bad", "bytes -5-9/10": "bad",
		"0-9/10": "bad", "bytes 0-9": "bad", "bytes 0-99999999999999999999/*": "bad",
	} {
		first, total, ok := parseContentRange(s)
		got := fmt.Sprint(first, total, ok)
		if !ok {
			got = "bad"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// TestDownloadOfOtherSize has a registry with more or less than it should have.
func TestDownloadOfOtherSize(t *testing.T) {
	chunked := func(w http.ResponseWriter, _ *http.Request) bool {
		w.(http.Flusher).Flush()
		_, err := w.Write([]byte("content"))
		return err == nil
	}
	for _, tc := range []struct {
		name, err string
		size      int64
		hook      hook
		tries     int
	}{
		{"less", "has 7 bytes in the registry where 8 were expected", 8, nil, 1},
		{"more", "has 7 bytes in the registry where 6 were expected", 6, nil, 1},
		{"ends early", "ends after 7 of its 8 bytes", 8, chunked, 4},
		{"does not end", "is longer than its 6 bytes", 6, chunked, 1},
		{"unknown", "", -1, chunked, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, nil)
			if tc.hook != nil {
				s.hook = between(1, 99, http.MethodGet, "/blobs/", tc.hook)
			}
			h := s.put("app", []byte("content"))
			o, _ := quick()
			rc, err := s.client("app", o).getBlob(t.Context(), h, tc.size)
			if err == nil {
				_, err = io.ReadAll(rc)
				rc.Close()
			}
			if tc.err != "" {
				wantError(t, err, tc.err, false)
			} else if err != nil {
				t.Error(err)
			}
			if n := count(s.requests(), "GET"); n != tc.tries {
				t.Errorf("%d requests, want %d", n, tc.tries)
			}
		})
	}
}
