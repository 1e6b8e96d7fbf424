// crictl, as far as kubeadm 1.20 uses it (cmd/kubeadm/app/util/runtime): info, pods -q, stopp, rmp, inspecti, pull.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1alpha2"
)

func main() {
	endpoint := "unix:///run/containerd/containerd.sock"
	args := os.Args[1:]
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		if args[0] == "-r" || args[0] == "--runtime-endpoint" {
			endpoint = args[1]
		}
		args = args[2:]
	}
	if err := run(endpoint, args); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(endpoint string, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if !strings.Contains(endpoint, "://") {
		endpoint = "unix://" + endpoint
	}
	conn, err := grpc.DialContext(ctx, endpoint, grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		return err
	}
	runtime, images := cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	last := args[len(args)-1]
	switch args[0] {
	case "info":
		status, err := runtime.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		fmt.Println(status.Status.String())
	case "pods":
		list, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			fmt.Println(pod.Id)
		}
	case "stopp":
		_, err = runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: last})
	case "rmp":
		_, err = runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: last})
	case "inspecti":
		found, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: last}})
		if err != nil {
			return err
		}
		if found.Image == nil {
			return fmt.Errorf("no such image %q present", last)
		}
		fmt.Println(found.Image.String())
	case "pull":
		_, err = images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: last}})
	default:
		return fmt.Errorf("%s is not one of the commands that kubeadm uses", args[0])
	}
	return err
}
