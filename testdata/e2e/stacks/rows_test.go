package stacks_test

// rowBatches are the rows of the hard cases, and the tree that every engine has
// to show.
var rowBatches = []batch{
	{name: "source and results", boundary: 1, stacks: []stack{
		{name: "Dockerfile: RUN echo one >/l/a; ln /l/a /l/b; ln /l/a /l/c, then RUN rm /l/a",
			layers: "l/ | l/ l/a=one l/b⇒l/a l/c⇒l/a | l/ ✗l/a", want: "l/ l/b=one l/c⇒l/b"},
		{name: "Dockerfile above the links", layers: "l/ l/a=one l/b⇒l/a l/c⇒l/a | l/ ✗l/a", want: "l/ l/b=one l/c⇒l/b"},
		{name: "A1 opaque last", layers: "a/ a/old | a/ a/new a◊", want: "a/ a/new"},
		{name: "A6 directory, file, directory", layers: "a/ a/old | a=f | a/ a/new", want: "a/ a/new"},
		{name: "A6 directory, symlink, directory", layers: "a/ a/old | a→f | a/ a/new", want: "a/ a/new"},
		{name: "A7 one name overwritten", layers: "a=A b⇒a c⇒a | a=NEW", want: "a=NEW b=A c⇒b"},
		{name: "A8 link target deleted", layers: "a=A b⇒a c⇒a | ✗a", want: "b=A c⇒b"},
		{name: "A9 link to a link name replaced later", layers: "t2=1 t1⇒t2 t3⇒t1 | t1=2", want: "t1=2 t2=1 t3⇒t2"},
		{name: "A12 hardlink to symlink", layers: "a=A l→a h⇒l", want: "a=A l→a h⇒l"},
		{name: "A12 above the base", layers: "a=A | l→a h⇒l", want: "a=A l→a h⇒l"},
		{name: "A13 linkname forms", layers: "d/ d/a=A b⇒/d/a c⇒./d/a", want: "d/ d/a=A b⇒d/a c⇒d/a"},
		{name: "A13 above the base", layers: "x | d/ d/a=A b⇒/d/a c⇒./d/a", want: "x d/ d/a=A b⇒d/a c⇒d/a"},
		{name: "A17 directory entry over a symlink", layers: "usr/ usr/bin/ usr/bin/sh bin→usr/bin | bin/ bin/x", want: "usr/ usr/bin/ usr/bin/sh bin/ bin/x"},
		{name: "A23 name forms", layers: "/etc/ /etc/a=old | etc/ etc/a=new ./etc/b", want: "etc/ etc/a=new etc/b"},
		// Unpacked in place, a directory keeps its attributes of before.
		{name: "A35 directory attributes are replaced", layers: "a/{user.k=1} | a/{user.k2=2}", want: "a/{user.k2=2}",
			except: []string{"source umoci", "above umoci"}},
		{name: "A37 directory attributes alone", layers: "s/ s/a | s/(0700)", want: "s/(0700) s/a"},
		{name: "B2 one name of a base group changed", layers: "a=A b⇒a | a=N", want: "a=N b=A"},
		{name: "B3 group rebound", layers: "a=A b⇒a | n=N b⇒n", want: "a=A n=N b⇒n"},
		{name: "B4 base file to directory", layers: "a=A | ✗a | a/ a/n", want: "a/ a/n"},
		{name: "B5 base directory to symlink", layers: "d/ d/x | d→t", want: "d→t"},
		{name: "B5 base directory to file", layers: "d/ d/x | d=f", want: "d=f"},
		{name: "B6 directory deleted and made again", layers: "a/ a/old | ✗a | a/ a/new", want: "a/ a/new"},
		{name: "B7 opaque, then additions", layers: "a/ a/s/ a/s/x | a/ a◊ | a/ a/s/ a/s/y", want: "a/ a/s/ a/s/y"},
		{name: "B8 base symlink to directory", layers: "t/ t/f l→t | l/ l/n", want: "t/ t/f l/ l/n"},
		{name: "B10 directory attributes alone", layers: "s/ | s/(0700)", want: "s/(0700)"},
		{name: "modification time alone", layers: "a=A b→a d/ | a=A(t2) b→a(t2) d/(t2)", want: "a=A(t2) b→a(t2) d/(t2)"},
		{name: "mode and owner alone", layers: "a b c | a(0600) b(u1) c(g1)", want: "a(0600) b(u1) c(g1)"},
		{name: "extended attribute alone", layers: "a b{user.k=v} c{user.k=v} | a{user.k=v} b c{user.k=w}", want: "a{user.k=v} b c{user.k=w}"},
		{name: "content alone", layers: "a=1 b=1 | a=2 b", want: "a=2 b"},
		{name: "symlink target alone", layers: "l→a | l→b", want: "l→b"},
		{name: "one link of a group changed in its attributes", layers: "a=A b⇒a | b=A(0600)", want: "a=A b=A(0600)"},
		{name: "devices and fifo", layers: "c!c1,3 b!b8,0 p!p | c!c1,5 p!p(0600)", want: "b!b8,0 c!c1,5 p!p(0600)"},
		{name: "B11 deleted and added again", layers: "f=1 | ✗f | f=2", want: "f=2"},
		{name: "B13 made and deleted above the base", layers: "k | t/ t/f | ✗t", want: "k"},
		{name: "B15 directory, file, directory", layers: "a/ a/old | a=f | a/ a/n", want: "a/ a/n"},
	}},
	// Docker and containers/storage refuse a name that a tar has twice; it is not
	// in the base, which stays.
	{name: "names twice", boundary: 1, sourceIn: []string{"umoci", "containerd"}, stacks: []stack{
		{name: "A22 file twice", layers: "x | a=1 a=2", want: "x a=2"},
		{name: "A22 directory twice", layers: "x | a/(0700) a/x a/(0755)", want: "x a/ a/x"},
		{name: "A22 spelled in two ways", layers: "x | a/ a//b=1 a/./b=2", want: "x a/ a/b=2"},
	}},
	{name: "results only", boundary: 1, sourceIn: []string{}, stacks: []stack{
		{name: "A31 nested whiteouts", layers: "k t/ t/f | ✗t ✗t/f", want: "k"},
		{name: "B1 new link to a base file", layers: "a=A | b⇒a", want: "a=A b⇒a"},
		{name: "B9 usr-merge", layers: "usr/ usr/bin/ usr/bin/sh bin→usr/bin | bin/x", want: "usr/ usr/bin/ usr/bin/sh bin/(t0) bin/x"},
		{name: "B12 marker for what is not there", layers: "k | ✗no/f", want: "k"},
	}},
	// An overlay does not know an opaque root.
	{name: "B14 everything deleted", boundary: 1, sourceIn: []string{"umoci"}, root: true, stacks: []stack{
		{name: "B14", layers: "a d/ d/x | ◊ b", want: "b"},
	}},
	{name: "B16 ambiguous base", boundary: 2, stacks: []stack{
		// In place, the base's bin/x goes to usr/bin.
		{name: "B16 usr-merge", layers: "usr/ usr/bin/ usr/bin/sh bin→usr/bin | bin/x | bin/ bin/y", want: "usr/ usr/bin/ usr/bin/sh bin/ bin/x bin/y",
			except: []string{"source umoci", "above umoci"}},
	}},
}
