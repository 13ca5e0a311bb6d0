/** What `amend` of an open image is asked for. */
export interface AmendRequest {
  /** As the user gave them, under QEMU's names. */
  readonly options: Readonly<Record<string, string>>;
  /** Also what makes the content of the image unreadable for ever. */
  readonly force: boolean;
  /** A key by its id; undefined: the user's new one, which is asked for. */
  secret(id: string | undefined): Promise<Buffer>;
  progress?: ((done: number, total: number) => void) | undefined;
}
