const MESSAGES_MAX = 200;
const LOSSES_MAX = 10_000;

/** What one look at an image found. */
export class Findings {
  corruptions = 0;
  /** Of them, flags of unshared clusters that do not fit the refcount. */
  wrongFlags = 0;
  leaks = 0;
  checkErrors = 0;
  imageEndOffset = 0;
  totalClusters = 0;
  allocatedClusters = 0;
  fragmentedClusters = 0;
  compressedClusters = 0;
  readonly messages = new Messages(MESSAGES_MAX, 'more findings');

  /** @param times how often: a table that several others name is looked at once */
  corruption(message: string, times = 1): void {
    this.corruptions += times;
    this.messages.add(message);
  }

  leak(message: string): void {
    this.leaks += 1;
    this.messages.add(message);
  }

  error(message: string, times = 1): void {
    this.checkErrors += times;
    this.messages.add(message);
  }

  get isSound(): boolean {
    return this.corruptions + this.leaks + this.checkErrors === 0;
  }
}

/** The first messages, and how many more there were. */
export class Messages {
  readonly list: string[] = [];
  private readonly most: number;
  private readonly more: string;
  private left = 0;

  constructor(most: number, more: string) {
    this.most = most;
    this.more = more;
  }

  add(message: string): void {
    if (this.list.length < this.most) {
      this.list.push(message);
      return;
    }
    this.left += 1;
    this.list[this.most] = `${this.left} ${this.more}`;
  }
}

/** What a repair did: first of all what it gave up. */
export class RepairLog {
  readonly messages = new Messages(LOSSES_MAX, 'more repairs');

  did(message: string): void {
    this.messages.add(`Repaired: ${message}`);
  }

  gaveUp(message: string): void {
    this.messages.add(`Given up: ${message}`);
  }
}
