// oras-copy [-plain-http] SOURCE TARGET copies an image as `oras cp` does, with the library that oras is made of.
// oras itself cannot be installed by its package name.
package main

import (
	"context"
	"flag"
	"log"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"
)

func main() {
	plain := flag.Bool("plain-http", false, "speak HTTP")
	flag.Parse()
	source, err := remote.NewRepository(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	target, err := remote.NewRepository(flag.Arg(1))
	if err != nil {
		log.Fatal(err)
	}
	source.PlainHTTP, target.PlainHTTP = *plain, *plain
	_, err = oras.Copy(context.Background(), source, source.Reference.Reference,
		target, target.Reference.Reference, oras.DefaultCopyOptions)
	if err != nil {
		log.Fatal(err)
	}
}
