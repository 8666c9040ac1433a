package share

import (
	"errors"
	"strings"
	"testing"
)

func TestPrefix(t *testing.T) {
	for _, c := range []struct {
		name, image, base string
		want              int
		err               string
	}{
		{"base of two", "a b c", "a b", 2, ""},
		{"base is the image", "a b", "a b", 2, ""},
		{"empty base", "a b", "", 0, ""},
		{"repeated diffID is compared by position", "a a b", "a a", 2, ""},
		{"repeated diffID, other count", "a b", "a a", 0, "layer 2 is b, in the base a"},
		{"another base", "a b c", "a x", 0, "layer 2 is b, in the base x"},
		{"base is longer", "a", "a b", 0, "it has 1 layers, the base 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := Prefix(strings.Fields(c.image), strings.Fields(c.base))
			if n != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("got %d, %v; want %d, %q", n, err, c.want, c.err)
			}
			if err != nil && (!errors.Is(err, ErrNotBase) || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want ErrNotBase with %q", err, c.err)
			}
		})
	}
}

func TestLowest(t *testing.T) {
	for _, c := range []struct {
		n, layers int
		ok        bool
	}{{0, 3, true}, {3, 3, true}, {4, 3, false}, {-1, 3, false}} {
		n, err := Lowest(c.n, c.layers)
		if (err == nil) != c.ok || c.ok && n != c.n {
			t.Errorf("Lowest(%d, %d) = %d, %v", c.n, c.layers, n, err)
		}
	}
}
